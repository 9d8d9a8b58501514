%% @doc A pool's workers, seen from outside: nothing here asks Python, whose answer would be
%% a sign of life, and which may be dead.
-module(test_workers).

-export([ready/1, os_pid/1, load/1, loads/1, lose/2, kill/1, memory/1, idle/1]).

-include_lib("erlang_python/erlang_side/src/py_worker.hrl").

%% @doc The workers that take work.
-spec ready(Pool :: atom()) -> [pid()].
ready(Pool) ->
    [Pid || #worker{pid = Pid} <- workers(Pool)].

%% @doc Their counted streams and requests, all together.
-spec load(Pool :: atom()) -> {Streams :: integer(), Requests :: integer()}.
load(Pool) ->
    {Requests, Streams} = lists:unzip([py_load:counts(Worker) || Worker <- workers(Pool)]),
    {lists:sum(Streams), lists:sum(Requests)}.

%% @doc The counted requests of each worker.
-spec loads(Pool :: atom()) -> [integer()].
loads(Pool) ->
    [py_load:requests(Worker) || Worker <- workers(Pool)].

%% @doc Counts what is never written to the first worker, as callers that are killed in between.
-spec lose({Requests :: non_neg_integer(), Streams :: non_neg_integer()}, Pool :: atom()) -> ok.
lose({Requests, Streams}, Pool) ->
    [Worker | _] = workers(Pool),
    [_ = py_load:exec(Worker) || _ <- lists:seq(1, Requests - Streams)],
    [ok = py_load:reserve(stream, Worker) || _ <- lists:seq(1, Streams)],
    ok.

%% The tuple of workers in the pool's row, see py_pool.
workers(Pool) ->
    [Row] = ets:lookup(py_pools, Pool),
    tuple_to_list(element(6, Row)).

%% @doc The Python process of a worker, or `gone'.
-spec os_pid(pid()) -> string() | gone.
os_pid(Worker) ->
    try
        integer_to_list(gen_server:call(Worker, os_pid))
    catch
        exit:_ -> gone
    end.

%% @doc Kills the Python process of a worker, if it is there.
-spec kill(pid()) -> ok.
kill(Worker) ->
    case os_pid(Worker) of
        gone ->
            ok;
        OsPid ->
            ok = test_os_process:kill(OsPid),
            ok
    end.

%% @doc What memory the Python process of a worker uses, in bytes; 0 if the
%% system does not say.
-spec memory(pid()) -> non_neg_integer().
memory(Worker) ->
    case os_pid(Worker) of
        gone ->
            0;
        OsPid ->
            resident(file:read_file("/proc/" ++ OsPid ++ "/status"))
    end.

resident({ok, Status}) ->
    {match, [Kilobytes]} = re:run(Status, "VmRSS:\\s*(\\d+)", [{capture, all_but_first, list}]),
    1024 * list_to_integer(Kilobytes);
resident({error, _}) ->
    0.

%% @doc Returns when all workers take work and neither side has any of it left.
-spec idle(Pool :: atom()) -> ok.
idle(Pool) ->
    #{size := Size} = py:info(Pool),
    test_eventually:equal(Size, fun() -> length(ready(Pool)) end),
    %% First without a word to Python: counters that are too high come down when it is silent.
    test_eventually:equal({0, 0}, fun() -> load(Pool) end),
    test_leftovers:none().
