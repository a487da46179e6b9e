-- What nodes agree on: who lives, who leads, who tells which conversation, who is logged in where. Times are those of the
-- database. Nodes of the version before know nothing of it and tell webhooks for themselves until they are replaced.

-- A node that has not said in time that it lives counts as dead, and what it has claimed is free.
CREATE TABLE nodes (
    node bigint PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- One row for each kind of work that one node does for all.
CREATE TABLE leases (
    name text PRIMARY KEY,
    node bigint NOT NULL,
    until timestamptz NOT NULL
);

-- claimed_by: the node that tells this conversation. claim: a random number for each time that it was claimed, without
-- which nobody may write down how far it was told.
ALTER TABLE outboxes ADD COLUMN claimed_by bigint;
ALTER TABLE outboxes ADD COLUMN claim bigint;

-- Logins on the long connection. leave: 0, or why the node is to end it: 1 the account has too many, 2 the same instance
-- has come back elsewhere.
CREATE TABLE logins (
    akey bigint NOT NULL,
    app bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    login bigint NOT NULL,
    instance bigint NOT NULL,
    node bigint NOT NULL,
    since timestamptz NOT NULL,
    leave smallint NOT NULL,
    PRIMARY KEY (akey, app, user_id, login)
);
CREATE INDEX logins_by_node ON logins (node, leave);
