%% @doc Code that runs in workers: one piece in several at once, or the rest of a pool's journal in
%% one. The process ends when it has run, with `{shutdown, {result, Result}}'.
%% @hidden
-module(py_exec_job).
-behaviour(gen_server).

-include("py_worker.hrl").

-export([exec/3, catch_up/3]).
-export([enter/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

-record(job, {
    %% Who wants to know that a worker has the code: `exec_written', once.
    queue = none :: none | pid(),
    %% Who has yet to answer.
    waiting = #{} :: #{Ref :: reference() => {#worker{}, py_request:request()}},
    %% For whom the port has no room so far.
    held = #{} :: #{Ref :: reference() => {py_port:held(), Opts :: map()}},
    results = [] :: [ok | unwritten | {error, py_error:reason()}],
    %% What is left of the journal: for which worker, of which pool, up to which number.
    journal = none :: none | {#worker{}, py_pool:name(), Last :: non_neg_integer(), Rest :: [binary()]}
}).

%% @doc Runs code in workers. The calling process gets `exec_written' when one of them has it. The result is that of all of them, and `unwritten' if all have ended before
%% they had it. Returns a monitor of the process.
-spec exec([#worker{}], binary(), map()) -> reference().
exec(Workers, Code, Opts) ->
    start({exec, self(), Workers, Code, Opts}).

%% @doc Runs what was added to a pool's journal after a number. The result is the number up to which
%% the worker has run it.
-spec catch_up(#worker{}, py_pool:name(), non_neg_integer()) -> reference().
catch_up(Worker, Pool, Number) ->
    start({catch_up, Worker, Pool, Number}).

start(What) ->
    {_Pid, Monitor} = proc_lib:spawn_opt(?MODULE, enter, [What], [monitor]),
    Monitor.

%% @private
-spec enter(term()) -> no_return().
enter({exec, Queue, Workers, Code, Opts = #{timeout := Timeout}}) ->
    %% The requests have that of the process that makes them.
    group_leader(maps:get(group_leader, Opts, group_leader()), self()),
    _ = is_integer(Timeout) andalso erlang:send_after(Timeout, self(), late),
    enter_loop(next(lists:foldl(fun(W, J) -> run(W, Code, Opts, J) end, #job{queue = Queue}, Workers)));
enter({catch_up, Worker, Pool, Number}) ->
    Last = py_journal:last(Pool),
    Codes = [Code || {_, Code} <- py_journal:since(Pool, Number)],
    enter_loop(next(#job{journal = {Worker, Pool, Last, Codes}})).

-spec enter_loop({noreply, #job{}} | {stop, term(), #job{}}) -> no_return().
enter_loop({noreply, Job}) -> gen_server:enter_loop(?MODULE, [], Job);
enter_loop({stop, Reason, _Job}) -> exit(Reason).

run(Worker, Code, Opts, Job) ->
    begun(py_call:exec(Worker, Code, Opts), Worker, Opts, Job).

begun({ok, Ref}, Worker, Opts, Job = #job{queue = Queue, waiting = Waiting}) ->
    _ = is_pid(Queue) andalso (Queue ! exec_written),
    Request = py_request:enter(py_request:begun(exec, Worker, exec, Ref, Opts), 0),
    Job#job{queue = none, waiting = Waiting#{Ref => {Worker, Request}}};
begun({full, Kept = {_, Ref, _}}, _Worker, Opts, Job = #job{held = Held}) ->
    Job#job{held = Held#{Ref => {Kept, Opts}}};
begun(unwritten, _Worker, _Opts, Job = #job{results = Results}) ->
    Job#job{results = [unwritten | Results]}.

%%% gen_server callbacks. A server, because such a process survives that the code is loaded twice.

-include("py_entered.hrl").

-spec handle_info(term(), #job{}) -> {noreply, #job{}} | {stop, term(), #job{}}.
handle_info({Ref, Payload}, Job = #job{waiting = Waiting}) when is_map_key(Ref, Waiting) ->
    #{Ref := {Worker, _}} = Waiting,
    case py_call:result(Worker, Payload) of
        {ok, _} -> ended(Ref, ok, Job);
        Error -> ended(Ref, Error, Job)
    end;
handle_info({'DOWN', Ref, process, _, Reason}, Job = #job{waiting = Waiting}) when is_map_key(Ref, Waiting) ->
    #{Ref := {Worker, _}} = Waiting,
    ended(Ref, {error, py_port:end_of(Worker, Reason)}, Job);
handle_info({offer, Ref, Tries}, Job = #job{held = Held}) when is_map_key(Ref, Held) ->
    {{Kept = {Worker, _, _}, Opts}, Rest} = maps:take(Ref, Held),
    next(begun(py_call:again(Kept, Tries), Worker, Opts, Job#job{held = Rest}));
handle_info({'DOWN', Ref, process, _, _}, Job = #job{held = Held}) when is_map_key(Ref, Held) ->
    {{{Worker, _, _}, Opts}, Rest} = maps:take(Ref, Held),
    next(begun(unwritten, Worker, Opts, Job#job{held = Rest}));
handle_info(late, Job = #job{waiting = Waiting, held = Held, results = Results}) ->
    maps:foreach(fun(_, {Kept, _}) -> py_call:withdraw(Kept) end, Held),
    maps:foreach(fun(Ref, {Worker, _}) -> py_port:cancel(Worker, Ref) end, Waiting),
    Late = Job#job{held = #{}, results = [{error, timeout} || _ <- maps:keys(Held)] ++ Results},
    next(lists:foldl(fun(Ref, J) -> count(Ref, {error, timeout}, J) end, Late, maps:keys(Waiting)));
handle_info(_Other, Job) ->
    {noreply, Job}.

ended(Ref, Result, Job) ->
    next(count(Ref, Result, Job)).

count(Ref, Result, Job = #job{waiting = Waiting, results = Results}) ->
    {{_, Request}, Rest} = maps:take(Ref, Waiting),
    py_request:ended(Request, Result),
    Job#job{waiting = Rest, results = [Result | Results]}.

next(Job = #job{waiting = Waiting, held = Held}) when map_size(Waiting) > 0; map_size(Held) > 0 ->
    {noreply, Job};
next(Job = #job{journal = none, results = Results}) ->
    stop(result(lists:usort(Results)), Job);
next(Job = #job{journal = {_, _, _, _}, results = [unwritten]}) ->
    %% The worker has ended.
    stop(unwritten, Job);
next(Job = #job{journal = {Worker, _Pool, Last, []}, results = Results}) ->
    log_failed(Results, Worker),
    stop(Last, Job);
next(Job = #job{journal = {Worker, Pool, Last, [Code | Rest]}, results = Results}) ->
    log_failed(Results, Worker),
    Flags = #{binaries => str, atoms => atom, traceback => true},
    next(run(Worker, Code, Flags, Job#job{results = [], journal = {Worker, Pool, Last, Rest}})).

stop(Result, Job) ->
    {stop, {shutdown, {result, Result}}, Job}.

log_failed(Results, Worker) ->
    [py_log:replay_failed(Worker, Reason) || {error, Reason} <- Results],
    ok.

%% If it ran in some workers and others ended meanwhile, it ran: those that replace
%% them run it from the journal.
result([Result]) ->
    Result;
result(Results) ->
    IsOk = lists:member(ok, Results),
    case [Error || Error = {error, Reason} <- Results, not (IsOk andalso is_exit(Reason))] of
        [] -> ok;
        [Error | _] -> Error
    end.

is_exit({worker_exit, _}) -> true;
is_exit(_) -> false.
