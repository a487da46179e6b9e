-- Spreads the tables over the workers of a Citus cluster. For an empty database right after `migrate`: on a full one
-- each table is copied, and nobody can write meanwhile. Rows of one home lie on one worker, so that every request is a
-- transaction on one of them.
SELECT create_distributed_table('accounts', 'akey');
SELECT create_distributed_table('memberships', 'akey', colocate_with => 'accounts');
SELECT create_distributed_table('conversations', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('counters', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('members', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('repeats', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('messages', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('bodies', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('extension_sets', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('pairs', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('recents', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('events', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('debts', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('outboxes', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('dead_letters', 'gkey', colocate_with => 'accounts');
SELECT create_distributed_table('logins', 'akey', colocate_with => 'accounts');
-- A row for each node, which every worker needs to know. The table of leases has one row and stays where it is.
SELECT create_reference_table('nodes');
