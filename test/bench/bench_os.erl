%% @doc What the operating system says of a process, and the clock that both
%% sides read. Linux only.
-module(bench_os).

-export([check_clock/0, clock/0, cpu_ms/1, load/0, node_rss/0, pss/1, rss/1, worker_pid/1]).

%% @doc The clock in nanoseconds that Python reads as time.monotonic_ns().
-spec clock() -> integer().
clock() -> os:perf_counter(nanosecond).

%% @doc Fails unless it is.
-spec check_clock() -> ok.
check_clock() ->
    Before = clock(),
    Python = bench_pool:call(clock, [], python, 5000),
    After = clock(),
    true = Before =< Python andalso Python =< After,
    ok.

%% @doc The operating system's process of a pool's only worker.
-spec worker_pid(atom()) -> pos_integer().
worker_pid(Pool) ->
    #{workers := [#{pid := Worker}]} = py:info(Pool),
    gen_server:call(Worker, os_pid).

%% @doc Resident memory in bytes.
-spec rss(pos_integer() | string()) -> non_neg_integer().
rss(Pid) ->
    {ok, Status} = file:read_file(file(Pid, "status")),
    {match, [Kilobytes]} = re:run(Status, "VmRSS:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(Kilobytes).

%% @doc Resident memory in bytes, of which what several processes share is divided among them.
-spec pss(pos_integer()) -> non_neg_integer().
pss(Pid) ->
    {ok, Rollup} = file:read_file(file(Pid, "smaps_rollup")),
    {match, [Kilobytes]} = re:run(Rollup, "Pss:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(Kilobytes).

%% @doc Resident memory of this node.
-spec node_rss() -> non_neg_integer().
node_rss() -> rss(os:getpid()).

%% @doc Processor time used so far, by user code and kernel.
-spec cpu_ms(pos_integer() | string()) -> non_neg_integer().
cpu_ms(Pid) ->
    {ok, Stat} = file:read_file(file(Pid, "stat")),
    %% The name in parentheses may hold blanks.
    [_, Rest] = binary:split(Stat, <<") ">>),
    Fields = binary:split(Rest, <<" ">>, [global]),
    Ticks = [binary_to_integer(lists:nth(N, Fields)) || N <- [12, 13]],
    %% USER_HZ is 100 on every Linux.
    10 * lists:sum(Ticks).

%% @doc The load of the machine over the last minute.
-spec load() -> string().
load() ->
    {ok, Load} = file:read_file("/proc/loadavg"),
    hd(string:lexemes(binary_to_list(Load), " ")).

file(Pid, Name) ->
    filename:join(["/proc", io_lib:format("~s", [pid(Pid)]), Name]).

pid(Pid) when is_integer(Pid) -> integer_to_list(Pid);
pid(Pid) -> Pid.
