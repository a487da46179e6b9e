-- Which conversations have had events lately, for nodes that hear nothing of each other. An index of ranges of pages costs
-- a write next to nothing: it holds the least and the largest time of each range.
CREATE INDEX events_by_time ON events USING brin (at);
