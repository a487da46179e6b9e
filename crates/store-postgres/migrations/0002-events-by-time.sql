-- Which conversations have had events lately, for nodes that hear nothing of each other. An index of ranges of pages costs
-- a write next to nothing: it holds the least and the largest time of each range. Without autosummarize it would learn of new
-- ranges only from VACUUM, and all of them would be read until then. `migrate` makes it CONCURRENTLY where there may be nodes,
-- so that nobody who writes waits.
CREATE INDEX events_by_time ON events USING brin (at) WITH (autosummarize = on);
