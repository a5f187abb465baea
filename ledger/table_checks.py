"""Rules about whole tables, looked at in each verification wherever its walk begins: one line of text for each finding.

Walks go from number 1 on, and seals cover numbers from 1 on: a row that has no number, or one below 1, would be in the
balance and in no walk. A view in the place of a table would show one thing to the auditor and another one to others.
Advices, acknowledgements and floors are under no seal: here they are compared with outcomes, which are.
"""

from __future__ import annotations

from ledger.accounts import CHART
from ledger.advice_demand import IS_DEMANDED
from ledger.checks import Check

# Rows are joined by index, one by one or both sides in its order. A hash of the advices of some years would not fit
# into memory and is written to disk. A table that the planner takes for a small one would be read whole for each row.
TABLE_SETTINGS = """
SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL enable_hashjoin = off; SET LOCAL enable_seqscan = off
"""

COUNTS = ("counts", "the tables have the outcomes that the seals cover, and no other up to the last seal")

# Table and column → least number.
_NUMBERED = {
    ("intents", "id"): 1,
    ("outcomes", "intent_id"): 1,
    ("outcomes", "seq"): 1,
    ("postings", "intent_id"): 1,
    ("accounts", "id"): 1,
    ("advices", "id"): 1,
    ("acknowledgements", "advice_id"): 1,
    ("advice_actions", "id"): 1,
    ("seals", "number"): 1,
    ("seals", "from_seq"): 1,
    ("seal_macs", "number"): 1,
    ("floors", "up_to"): 0,
}
_NUMBERS = " UNION ALL ".join(
    f"(SELECT format('ledger.{table} has a row whose {column} is %s', COALESCE({column}::text, 'empty'))"
    f" FROM ledger.{table} WHERE {column} < {least} OR {column} IS NULL LIMIT 5)"
    for (table, column), least in _NUMBERED.items()
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# First and last part of a path, and the type of such an account. `platform:revenue` has two parts, `cash:bank` too.
_CHART = ", ".join(f"({_quoted(a)}, {_quoted(z)}, {_quoted(kind)})" for (a, z), (kind, _) in CHART.items())

TABLE_CHECKS: tuple[Check, ...] = (
    Check("numbers", "every row has a number from 1 on, so that no walk passes it by", f"SELECT * FROM ({_NUMBERS}) n"),
    Check(
        "accounts",
        "every account is one of the chart, and has its type",
        "SELECT format('account %s %s has type %s: %s', a.id, a.name, a.type,"
        "              COALESCE('the chart says ' || c.type, 'the chart has no such account'))"
        f" FROM ledger.accounts a LEFT JOIN (VALUES {_CHART}) c (first, last, type)"
        "   ON c.first = split_part(a.name, ':', 1) AND c.last = split_part(a.name, ':', -1)"
        "  AND a.name LIKE '%:%'"
        " WHERE c.type IS DISTINCT FROM a.type",
    ),
    Check(
        "tables",
        "the journal's tables are tables, without rules or policies that show other rows",
        "SELECT format('ledger.%s is no plain table: %s', c.relname, CASE WHEN c.relkind NOT IN ('r', 'p')"
        "              THEN 'it shows rows of something else' WHEN c.relrowsecurity THEN 'a policy may hide rows of it'"
        "              ELSE 'a rule rewrites its queries' END)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'ledger'"
        " WHERE c.relname IN (" + ", ".join(sorted({_quoted(table) for table, _ in _NUMBERED})) + ")"
        "   AND (c.relkind NOT IN ('r', 'p') OR c.relrowsecurity"
        "        OR EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid))",
    ),
    Check(
        "advices",
        "each advice is of an outcome that calls for it",
        "SELECT format('advice %s, %s to %s: the outcome of intent %s calls for none', d.id, d.mti, d.link,"
        "              d.intent_id)"
        " FROM ledger.advices d LEFT JOIN ledger.outcomes o ON o.intent_id = d.intent_id"
        " LEFT JOIN ledger.intents i ON i.id = d.intent_id"
        f" WHERE NOT {IS_DEMANDED}",
    ),
    Check(
        "acknowledgements",
        "each acknowledgement and each action is of an advice that there is",
        "SELECT * FROM (SELECT format('advice %s is acknowledged and is not there', k.advice_id)"
        " FROM ledger.acknowledgements k LEFT JOIN ledger.advices d ON d.id = k.advice_id WHERE d.id IS NULL"
        " UNION ALL SELECT format('advice %s was %s and is not there', a.advice_id, a.action)"
        " FROM ledger.advice_actions a LEFT JOIN ledger.advices d ON d.id = a.advice_id WHERE d.id IS NULL) r",
    ),
    Check(
        "floors",
        "no floor is above the last row, and no advice below a floor waits",
        "SELECT * FROM (SELECT format('the floor %s is %s, above the last row', f.name, f.up_to)"
        " FROM (SELECT name, max(up_to) AS up_to FROM ledger.floors GROUP BY name) f"
        " WHERE f.up_to > CASE WHEN f.name = 'undecided' THEN COALESCE((SELECT max(id) FROM ledger.intents), 0)"
        "                 ELSE COALESCE((SELECT max(id) FROM ledger.advices), 0) END"
        " UNION ALL SELECT format('advice %s to %s waits below the floor of its link', d.id, d.link)"
        " FROM (SELECT substr(name, 9) AS link, max(up_to) AS up_to FROM ledger.floors WHERE name LIKE 'advices %'"
        "        GROUP BY name) f JOIN ledger.advices d ON d.link = f.link AND d.id <= f.up_to"
        " WHERE NOT EXISTS (SELECT FROM ledger.acknowledgements k WHERE k.advice_id = d.id OFFSET 0)"
        "   AND NOT EXISTS (SELECT FROM ledger.advice_actions a WHERE a.advice_id = d.id OFFSET 0)) r",
    ),
)
