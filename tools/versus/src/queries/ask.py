"""Answers SQL, a line each, by DuckDB or chdb: rows of whole numbers, and the time that they took."""
import csv, io, json, os, resource, sys, time

package, threads, cores = sys.argv[1], int(sys.argv[2]), [int(c) for c in sys.argv[3].split(",")]
os.sched_setaffinity(0, cores)
# What a library prints while it works (DuckDB, how far it is) is no reply.
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
if package == "duckdb":
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads = {threads}")
    ask = lambda sql: [list(row) for row in connection.execute(sql).fetchall()]
else:
    from chdb import session

    connection = session.Session()

    def ask(sql):
        text = str(connection.query(f"{sql} settings max_threads = {threads}", "CSV"))
        return [[int(cell) for cell in row] for row in csv.reader(io.StringIO(text))]


for line in sys.stdin:
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = ask(line.strip())
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    reply = {
        "rows": [[int(cell) for cell in row] for row in rows],
        "wall_us": int(1e6 * (ended - began)),
        "user_us": int(1e6 * (after.ru_utime - before.ru_utime)),
        "system_us": int(1e6 * (after.ru_stime - before.ru_stime)),
    }
    print(json.dumps(reply), file=replies, flush=True)
