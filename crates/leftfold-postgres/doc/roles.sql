-- Before: the database, and a role for each use. Passwords are for you to set.
CREATE ROLE shop_owner LOGIN;  -- creates the store, and brings it to a newer format
CREATE ROLE shop LOGIN;        -- runs the application
CREATE ROLE shop_reader LOGIN; -- reads events and read models: reports, other programs
CREATE DATABASE shop;
\connect shop
GRANT CREATE ON DATABASE shop TO shop_owner; -- the schema of the store
GRANT CREATE ON DATABASE shop TO shop;       -- a schema for each version of a read model

-- After the store was opened once by shop_owner: postgres://shop_owner@host/shop?schema=orders
GRANT USAGE ON SCHEMA orders TO shop, shop_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA orders TO shop, shop_reader;
GRANT INSERT ON ALL TABLES IN SCHEMA orders TO shop;
GRANT UPDATE ON orders.state, orders.leases, orders.snapshots, orders.inline_projections TO shop;
GRANT DELETE ON orders.leases TO shop;

-- What the application creates from now on, shop_reader may read.
ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT USAGE ON SCHEMAS TO shop_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT ON TABLES TO shop_reader;
