-- The first schema. See docs/decisions/0018-postgresql-schema.md.
--
-- Every table begins with the key of a home: gkey is the hash of a conversation, akey that of an account. A request
-- touches rows of one home, so each of its statements stays on one shard where the tables are distributed.
--
-- `data` is the row as the server reads it. The columns behind it repeat some of it for whoever looks with psql; the
-- server writes them and never reads them. Tables without `data` hold columns that are read.
--
-- Texts that are keys compare byte by byte (COLLATE "C"). U+0000, which this database can't hold, is written as
-- U+0001 '0', and U+0001 as U+0001 '1', so that the order stays.

-- incarnation: the number of one life of a conversation, less 2^63, so that its order stays. Times are milliseconds since
-- 1970 unless the name says otherwise.

CREATE TABLE accounts (
    akey bigint NOT NULL,
    app bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    tiny_id bigint NOT NULL,
    PRIMARY KEY (akey, app, user_id)
);

CREATE TABLE memberships (
    akey bigint NOT NULL,
    app bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    since_event bigint NOT NULL,
    PRIMARY KEY (akey, app, user_id, group_id, incarnation)
);

-- name: 'g' and the GroupId, or 'p' and the two UserIDs with a tab between them.
CREATE TABLE conversations (
    gkey bigint NOT NULL,
    app bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    data bytea NOT NULL,
    kind text NOT NULL,
    owner text,
    PRIMARY KEY (gkey, app, name)
) WITH (fillfactor = 75);

CREATE TABLE counters (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    last_event bigint NOT NULL,
    members bigint NOT NULL,
    last_msg_seq bigint NOT NULL,
    last_msg_at bigint NOT NULL,
    PRIMARY KEY (gkey, incarnation)
) WITH (fillfactor = 50);

CREATE TABLE members (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    tiny_id bigint NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (gkey, incarnation, user_id)
) WITH (fillfactor = 85);

CREATE TABLE repeats (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    fingerprint bytea NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (gkey, incarnation, fingerprint)
);

-- message: the MsgSeq of a message of a group, the MsgKey of a one-to-one message, as on the wire.
CREATE TABLE messages (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    sender text NOT NULL,
    sent_at bigint NOT NULL,
    recalled boolean NOT NULL,
    PRIMARY KEY (gkey, incarnation, message)
) WITH (fillfactor = 90);

CREATE TABLE bodies (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (gkey, incarnation, message)
);

CREATE TABLE extension_sets (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    latest_seq bigint NOT NULL,
    clear_seq bigint NOT NULL,
    live bigint NOT NULL,
    tombstones bigint NOT NULL,
    attempts_since bigint NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (gkey, incarnation, message)
) WITH (fillfactor = 75);

-- value: NULL is a tombstone.
CREATE TABLE pairs (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    message text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    value text,
    PRIMARY KEY (gkey, incarnation, message, key)
) WITH (fillfactor = 75);

-- The history of a one-to-one conversation.
CREATE TABLE recents (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    sent_second bigint NOT NULL,
    seq bigint NOT NULL,
    random bigint NOT NULL,
    PRIMARY KEY (gkey, incarnation, sent_second, seq, random)
);

-- Numbered without gaps for each life of a conversation.
CREATE TABLE events (
    gkey bigint NOT NULL,
    incarnation bigint NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL,
    at bigint NOT NULL,
    what text NOT NULL,
    PRIMARY KEY (gkey, incarnation, number)
);

-- Work that a home owes; gkey is that of the home, also where it is an account. debt: in the order of when it is due.
CREATE TABLE debts (
    gkey bigint NOT NULL,
    debt bytea NOT NULL,
    due bigint NOT NULL,
    task text NOT NULL,
    PRIMARY KEY (gkey, debt)
);
CREATE INDEX debts_by_due ON debts (debt);

CREATE TABLE outboxes (
    gkey bigint NOT NULL,
    app bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    data bytea NOT NULL,
    after_event bigint NOT NULL,
    PRIMARY KEY (gkey, app, name, incarnation)
) WITH (fillfactor = 75);
CREATE INDEX outboxes_by_name ON outboxes (app, name, incarnation);

CREATE TABLE dead_letters (
    gkey bigint NOT NULL,
    app bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (gkey, app, name, incarnation, number)
);
CREATE INDEX dead_letters_by_name ON dead_letters (app, name, incarnation, number);
