%% @doc The workers that are ready, with what is known of each. A worker writes its own row:
%% whoever wants to know how it is reads the row, and asks neither the worker nor Python, which
%% may be stuck.
%% @hidden
-module(py_workers).

-include("py_worker.hrl").

-export([tables/0, enter/3, update/2, forget/1]).
-export([find/1, infos/1, about/1, faulthandler/1]).

-define(TABLE, py_workers).

%% The most requests of a worker that are listed. More make the state of a busy pool slow to read.
-define(LISTED, 10).

-record(row, {
    pid :: pid(),
    pool :: py_pool:name(),
    worker :: #worker{},
    %% When it became ready, in milliseconds of monotonic time.
    since :: integer(),
    os_pid :: pos_integer() | undefined,
    %% And what only this module knows: how to have its stacks written.
    python :: #{stacks => {pos_integer(), non_neg_integer()} | undefined, atom() => term()},
    %% Resident memory in bytes, when it was last read.
    rss = undefined :: non_neg_integer() | undefined,
    %% What Python said last of itself.
    stats = #{} :: #{atom() => non_neg_integer()},
    %% Whether a sign of life is overdue.
    is_silent = false :: boolean()
}).

%% @doc Makes the table; its owner outlives every worker.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #row.pid}]),
    ok.

%% @doc The calling worker is ready.
-spec enter(#worker{}, py_pool:name(), #{atom() => term()}) -> ok.
enter(Worker = #worker{pid = Pid}, Pool, Info) ->
    Row = #row{
        pid = Pid,
        pool = Pool,
        worker = Worker,
        since = py_clock:now_ms(),
        os_pid = maps:get(os_pid, Info, undefined),
        python = maps:without([os_pid, counters], Info),
        stats = maps:remove(waits, maps:get(counters, Info, #{}))
    },
    try
        ets:insert(?TABLE, Row),
        ok
    catch
        error:badarg -> gone()
    end.

%% @doc Something about the calling worker has changed.
-spec update(pid(), [{rss, non_neg_integer() | undefined} | {stats, map()} | {is_silent, boolean()}]) -> ok.
update(Pid, Changes) ->
    try
        _ = ets:update_element(?TABLE, Pid, [{position(Key), Value} || {Key, Value} <- Changes]),
        ok
    catch
        error:badarg -> gone()
    end.

%% The top supervisor was killed, and the table has gone with it: the worker, which may be one of somebody's
%% own, ends as it does when the application stops.
-spec gone() -> no_return().
gone() ->
    exit({shutdown, {worker_exit, stopped}}).

position(rss) -> #row.rss;
position(stats) -> #row.stats;
position(is_silent) -> #row.is_silent.

%% @doc A worker has ended, or takes nothing new. Of one that was killed the reaper says so.
-spec forget(pid()) -> ok.
forget(Pid) ->
    try
        ets:delete(?TABLE, Pid),
        ok
    catch
        %% The top supervisor has ended, and the table with it.
        error:badarg -> ok
    end.

%% @doc The worker of that pid, and its pool.
-spec find(pid()) -> {#worker{}, py_pool:name()} | none.
find(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [#row{worker = Worker, pool = Pool}] -> {Worker, Pool};
        [] -> none
    catch
        error:badarg -> none
    end.

%% @doc What log records say of a worker.
-spec about(pid()) -> #{pool => py_pool:name(), worker => pid(), os_pid => pos_integer() | undefined}.
about(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [#row{pool = Pool, os_pid = OsPid}] -> #{pool => Pool, worker => Pid, os_pid => OsPid};
        [] -> #{}
    catch
        error:badarg -> #{}
    end.

%% @doc The operating-system process of a worker, the signal at which it writes its stacks, and the
%% descriptor that it writes them to.
-spec faulthandler(pid()) -> {pos_integer(), {pos_integer(), non_neg_integer()}} | none.
faulthandler(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [#row{os_pid = OsPid, python = #{stacks := {Signal, Fd}}}] -> {OsPid, {Signal, Fd}};
        _ -> none
    catch
        error:badarg -> none
    end.

%% @doc What is known of the workers of a pool, the oldest first.
-spec infos(py_pool:name()) -> [py_pool_info:worker_info()].
infos(Pool) ->
    Now = py_clock:now_ms(),
    Pattern = erlang:make_tuple(record_info(size, row), '_', [{1, row}, {#row.pool, Pool}]),
    Rows = ets:match_object(?TABLE, Pattern),
    %% One that was killed has left its row, until the reaper hears of it.
    [info(Row, Now) || Row = #row{pid = Pid} <- lists:sort(fun is_older/2, Rows), is_process_alive(Pid)].

is_older(#row{since = A, pid = P}, #row{since = B, pid = Q}) -> {A, P} =< {B, Q}.

info(Row = #row{worker = Worker, since = Since, stats = Stats}, Now) ->
    {Requests, Streams} = py_load:counts(Worker),
    silence(Row, Stats#{
        pid => Row#row.pid,
        os_pid => Row#row.os_pid,
        rss => Row#row.rss,
        age => Now - Since,
        running => py_request:under_way(Row#row.pid, ?LISTED),
        counters => counters(Row#row.worker),
        python => maps:get(python, Row#row.python, undefined),
        streams => Streams,
        %% Python's own number is the same, a little later.
        requests => Requests,
        calls => max(0, Requests - Streams)
    }).

counters(#worker{counters = {_, Own}}) -> py_counters:read(Own);
counters(#worker{counters = none}) -> #{}.

%% Stuck in C code with the interpreter lock held, or stopped.
silence(#row{is_silent = true}, Info) -> Info#{error => timeout};
silence(#row{is_silent = false}, Info) -> Info.
