%% @doc What users send that is no plain row: `None' in a row, nested rows, types of databases,
%% tables; and how long a worker takes to start, and what it needs of memory.
-module(bench_types).

-export([sections/0, run/2]).

-define(MIB, 1048576).

%% @doc The sections that this module measures.
-spec sections() -> [atom()].
sections() -> [types, tables, start, memory].

%% @doc Measures one of them.
-spec run(atom(), bench:context()) -> ok.
run(types, Context) ->
    N = bench:scale(200000, Context),
    Kinds = [rows, rows_none, dicts, dicts_none, dicts_nan, nested, database],
    bench:compare(types, "events/s", [{Kind, rate(Kind, [N], N)} || Kind <- Kinds], Context);
run(tables, Context) ->
    %% One value is a table of this number of rows; what counts is rows.
    Rows = 1000,
    N = bench:scale(200, Context),
    Rate = fun(Kind) -> fun() -> Rows * bench_rates:stream({bench_values, Kind, [Rows, N]}, N, python, #{}) end end,
    Kinds = [plain_table | [Kind || {Package, Kind} <- [{pandas, data_frames}, {pyarrow, arrow_batches}, {pyarrow, arrow_ipc}], has(Package)]],
    bench:compare(tables, "rows/s", [{Kind, Rate(Kind)} || Kind <- Kinds], Context);
run(start, Context) ->
    bench:compare(start, "ms", [
        {bare_interpreter, fun() -> ms(fun() -> "" = os:cmd(os:getenv("ERLANG_PYTHON") ++ " -c pass") end) end},
        {one_worker, fun() -> started(1, Context) end},
        {four_workers, fun() -> started(4, Context) end}
    ], Context);
run(memory, Context) ->
    bench:compare(memory, "MiB", [
        {new, fun() -> pss(fun(_) -> ok end, Context) end},
        {after_calls, fun() -> pss(fun calls/1, Context) end},
        {after_async_calls, fun() -> pss(fun async_calls/1, Context) end}
    ], Context#{warm => false}).

rate(Kind, Args, N) ->
    fun() -> bench_rates:stream({bench_values, Kind, Args}, N, python, #{}) end.

has(Package) ->
    {ok, Has} = py:eval("__import__('importlib.util').util.find_spec(package) is not None", #{package => Package}, #{pool => python}),
    Has.

ms(Fun) ->
    {Us, _} = timer:tc(Fun),
    Us / 1000.

started(Workers, Context) ->
    Took = ms(fun() -> {ok, _} = bench_pool:start(starting, #{workers => Workers}, Context) end),
    ok = py:stop_pool(starting),
    Took.

%% Of each of eight workers: what they share counts for an eighth.
pss(Use, Context) ->
    bench_pool:with(memory, #{workers => 8}, Context, fun() ->
        Workers = [Worker || #{pid := Worker} <- maps:get(workers, py:info(memory))],
        lists:foreach(Use, Workers),
        lists:sum([bench_os:pss(gen_server:call(Worker, os_pid)) || Worker <- Workers]) / length(Workers) / ?MIB
    end).

calls(Worker) ->
    [{ok, 1} = py:call(bench_values, echo, [1], #{}, #{pool => Worker}) || _ <- lists:seq(1, 500)],
    ok.

async_calls(Worker) ->
    [{ok, none} = py:call(asyncio, sleep, [0], #{}, #{pool => Worker}) || _ <- lists:seq(1, 500)],
    ok.
