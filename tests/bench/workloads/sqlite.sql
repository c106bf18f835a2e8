-- SPDX-License-Identifier: Apache-2.0
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price INTEGER, shop INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, 'item' || (i * 7919 % 60000), i * 31 % 997, i % 50 FROM n;
COMMIT;
CREATE INDEX by_name ON item(name);
SELECT shop, count(*), sum(price) FROM item GROUP BY shop ORDER BY 3 DESC LIMIT 3;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id < b.id;
UPDATE item SET price = price + 1 WHERE name LIKE 'item1%';
DELETE FROM item WHERE shop = 7;
SELECT sum(price) FROM item;
