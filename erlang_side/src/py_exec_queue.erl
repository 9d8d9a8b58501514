%% @doc A pool's jobs: code that its workers run, one job after another, so that all of
%% them run the same code in the same order. A job is a `py:exec', or what a new worker
%% has yet to run of the journal.
%%
%% The pool's manager holds this value. It gets a `DOWN' message for each job, for
%% {@link done/3}.
%% @hidden
-module(py_exec_queue).

-include("py_worker.hrl").

-export([new/1, exec/4, catch_up/2, is_running/1, waiting/1, execs/1, next/3, done/3]).
%% Called by spawn_monitor/3.
-export([answer/1]).
-export_type([jobs/0, ready/0]).

-type job() :: {exec, gen_server:from(), Code :: binary(), Opts :: map()} | {catch_up, pid()}.
-type ready() :: #{pid() => {#worker{}, Number :: non_neg_integer()}}.
%% The workers that are ready, and up to which number of the journal each has run it.

-record(jobs, {
    pool :: py_pool:name(),
    running = none :: none | {Monitor :: reference(), job()},
    waiting = queue:new() :: queue:queue(job())
}).
-opaque jobs() :: #jobs{}.

-spec new(py_pool:name()) -> jobs().
new(Pool) ->
    #jobs{pool = Pool}.

%% @doc Every worker is to run `Code'; `From' gets the result.
-spec exec(gen_server:from(), Code :: binary(), Opts :: map(), jobs()) -> jobs().
exec(From, Code, Opts, Jobs) ->
    add({exec, From, Code, Opts}, Jobs).

%% @doc A worker is to run what was added to the journal since it started.
-spec catch_up(pid(), jobs()) -> jobs().
catch_up(Pid, Jobs) ->
    add({catch_up, Pid}, Jobs).

add(Job, Jobs = #jobs{waiting = Waiting}) ->
    Jobs#jobs{waiting = queue:in(Job, Waiting)}.

-spec is_running(jobs()) -> boolean().
is_running(#jobs{running = Running}) ->
    Running =/= none.

%% @doc The workers that wait for a job of their own, and are behind until it has run.
-spec waiting(jobs()) -> [pid()].
waiting(#jobs{waiting = Waiting}) ->
    [Pid || {catch_up, Pid} <- queue:to_list(Waiting)].

%% @doc How many `py:exec' wait. One that runs counts as a request of its workers.
-spec execs(jobs()) -> non_neg_integer().
execs(#jobs{waiting = Waiting}) ->
    length([exec || {exec, _, _, _} <- queue:to_list(Waiting)]).

%% @doc Starts the next job unless one runs. `Reason' is for who has code to run while
%% there is no worker.
-spec next(ready(), py_error:reason(), jobs()) -> jobs().
next(Ready, Reason, Jobs = #jobs{running = none, waiting = Waiting}) ->
    case queue:out(Waiting) of
        {empty, _} -> Jobs;
        {{value, Job}, Rest} -> start(Job, Ready, Reason, Jobs#jobs{waiting = Rest})
    end;
next(_Ready, _Reason, Jobs) ->
    Jobs.

start({exec, From, _, _}, Ready, Reason, Jobs) when map_size(Ready) =:= 0 ->
    gen_server:reply(From, {error, Reason}),
    next(Ready, Reason, Jobs);
start(Job = {exec, _, Code, Opts = #{replay := Replay}}, Ready, _Reason, Jobs) ->
    Replay andalso py_journal:add(Jobs#jobs.pool, Code),
    Workers = [Worker || {Worker, _} <- maps:values(Ready)],
    run(Job, fun() -> exec_all(Workers, Code, Opts) end, Jobs);
start(Job = {catch_up, Pid}, Ready, Reason, Jobs = #jobs{pool = Pool}) ->
    case Ready of
        #{Pid := {Worker, Number}} ->
            run(Job, fun() -> catch_up(Worker, Pool, Number) end, Jobs);
        #{} ->
            next(Ready, Reason, Jobs)
    end.

run(Job, Fun, Jobs) ->
    {_Pid, Monitor} = spawn_monitor(?MODULE, answer, [Fun]),
    Jobs#jobs{running = {Monitor, Job}}.

%% @private A job's process answers by how it exits.
-spec answer(fun(() -> term())) -> no_return().
answer(Fun) ->
    exit({result, Fun()}).

exec_all(Workers, Code, Opts = #{timeout := Timeout}) ->
    Monitors = [
        spawn_monitor(?MODULE, answer, [fun() -> py_call:exec(Worker, Code, Opts, Timeout) end])
     || Worker <- Workers
    ],
    Results = [
        receive
            {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
            {'DOWN', Monitor, process, Pid, Reason} -> {error, py_error:worker_exit(Reason)}
        end
     || {Pid, Monitor} <- Monitors
    ],
    result(lists:usort(Results)).

%% If it ran in some workers and others ended meanwhile, it ran: those that replace
%% them run it from the journal.
result([ok]) ->
    ok;
result(Results) ->
    IsOk = lists:member(ok, Results),
    case [Error || Error = {error, Reason} <- Results, not (IsOk andalso is_exit(Reason))] of
        [] -> ok;
        [Error | _] -> Error
    end.

is_exit({worker_exit, _}) -> true;
is_exit(_) -> false.

catch_up(Worker, Pool, Number) ->
    Flags = #{binaries => str, atoms => atom, traceback => true},
    lists:foreach(
        fun({_, Code}) ->
            case py_call:exec(Worker, Code, Flags, infinity) of
                ok -> ok;
                {error, Reason} -> py_log:replay_failed(Pool, Reason)
            end
        end,
        py_journal:since(Pool, Number)
    ).

%% @doc A process ended. `ran': it was the job's, and every worker that does not wait has
%% run the journal; `failed': it was the job's, which came to no result.
-spec done(Monitor :: reference(), Reason :: term(), jobs()) -> {ran | failed, jobs()} | unrelated.
done(Monitor, Reason, Jobs = #jobs{running = {Monitor, Job}, pool = Pool}) ->
    {finish(Job, Reason, Pool), Jobs#jobs{running = none}};
done(_Monitor, _Reason, _Jobs) ->
    unrelated.

finish({exec, From, Code, #{replay := Replay}}, {result, Result}, Pool) ->
    Result =:= ok orelse (Replay andalso py_journal:remove(Pool, Code)),
    gen_server:reply(From, Result),
    ran;
finish({catch_up, _}, _Result, _Pool) ->
    ran;
finish({exec, From, _, _}, Reason, _Pool) ->
    gen_server:reply(From, {error, py_error:worker_exit(Reason)}),
    failed.
