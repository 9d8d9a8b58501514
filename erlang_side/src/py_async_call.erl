%% @doc Calls that have a process of their own, which waits for the result and ends with the
%% call: `py:cast' and `py:spawn_call', which do not block their caller, and calls whose pool may
%% be on another node. The process monitors the caller; when that ends, the Python code is
%% interrupted.
%%
%% The table py_async_call maps the reference of a call to its process, for
%% {@link await/2}, which may give it up.
%% @hidden
-module(py_async_call).
-behaviour(gen_server).

-include("py_worker.hrl").
-include("py_cluster.hrl").

-export([await/2, cast/3, run/3, spawn_call/3, sweep/0, tables/0]).
-export([enter/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

-define(TABLE, py_async_call).

-record(call, {
    %% What the caller waits for, and its monitor; none of a cast.
    ref :: reference() | none,
    monitor :: reference() | none,
    caller = none :: pid() | none,
    target = none :: py_call:target() | none,
    opts :: map(),
    %% Who runs it, and the reference of the request; on another node the relay has that.
    worker = none :: #worker{} | py_remote:remote() | none,
    request = none :: reference() | none,
    %% While its worker's port has no room for it; and where else it may go if that ends.
    held = none :: {py_port:held(), py_cluster:route()} | none,
    watched = none :: py_request:request() | none,
    %% While there is no worker for it, and how long it has waited, in native units.
    wait = none :: py_wait:wait(),
    queue_time = 0 :: non_neg_integer()
}).

%% @doc Makes the table; its owner outlives every call.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc Makes a call and drops its result. A failure is logged.
-spec cast(#worker{} | py_cluster:route(), py_call:target(), map()) -> ok | {error, py_error:reason()}.
cast(Where, Target, Opts) ->
    counted(Where, fun(Counted) ->
        _ = proc_lib:spawn(?MODULE, enter, [none, Counted, Target, Opts]),
        ok
    end).

%% Counted before there is a process for it, so that many that come at once spread over all workers.
counted(Worker = #worker{}, Fun) ->
    case py_load:reserve(call, Worker) of
        ok ->
            try
                Fun({counted, Worker})
            catch
                error:system_limit ->
                    py_load:release(call, Worker),
                    {error, system_limit}
            end;
        Draining ->
            Draining
    end;
counted(Route, Fun) ->
    try
        Fun(Route)
    catch
        error:system_limit -> {error, system_limit}
    end.

%% @doc Makes a call and waits for its result.
-spec run(py_cluster:route(), py_call:target(), map()) -> {ok, term()} | {error, py_error:reason()}.
run(Route, Target, Opts) ->
    case counted(Route, fun(_) -> start(Route, Target, Opts) end) of
        {Pid, Ref} when is_pid(Pid) ->
            Pid ! {'begin', Ref},
            await(Ref, infinity);
        Error ->
            Error
    end.

%% @doc Makes a call whose result comes later, to the process that calls this, as
%% the message `{Ref, Result}'. If that process ends first, the Python code is
%% interrupted.
-spec spawn_call(#worker{} | py_cluster:route(), py_call:target(), map()) -> reference() | {error, py_error:reason()}.
spawn_call(Where, Target, Opts) ->
    counted(Where, fun(Counted) ->
        {Pid, Ref} = start(Counted, Target, Opts),
        ets:insert(?TABLE, {Ref, Pid}),
        Pid ! {'begin', Ref},
        Ref
    end).

start(Where, Target, Opts) ->
    proc_lib:spawn_opt(?MODULE, enter, [self(), Where, Target, Opts], [{monitor, [{alias, reply_demonitor}]}]).

%% @private
-spec enter(Caller :: pid() | none, {counted, #worker{}} | py_cluster:route(), py_call:target(), map()) -> no_return().
enter(none, Where, Target, Opts) ->
    py_log:label(cast, names(Target)),
    enter(Where, #call{ref = none, monitor = none, target = Target, opts = Opts});
enter(Caller, Where, Target, Opts) ->
    py_log:label(call, names(Target)),
    Monitor = erlang:monitor(process, Caller),
    receive
        {'begin', Ref} ->
            enter(Where, #call{ref = Ref, monitor = Monitor, caller = Caller, target = Target, opts = Opts});
        {'DOWN', Monitor, process, _, _} ->
            not_begun(Where),
            forget({'_', self()}),
            exit(normal)
    end.

%% Cheaper than those for people.
names({_Kind, Module, Function, _, _}) -> {Module, Function}.

not_begun({counted, Worker}) -> py_load:release(call, Worker);
not_begun(_Route) -> ok.

enter(Where, Call = #call{opts = #{timeout := Timeout}}) ->
    _ = is_integer(Timeout) andalso erlang:send_after(Timeout, self(), late),
    case begun(Where, Call) of
        {noreply, Begun} -> gen_server:enter_loop(?MODULE, [], Begun);
        {stop, normal, _} -> exit(normal)
    end.

begun({counted, Worker}, Call = #call{target = Target, opts = Opts}) ->
    Route = py_cluster:here(maps:get(pool, Opts, default)),
    case py_call:write(Worker, Target, Opts) of
        %% Python never gets it: another worker may.
        unwritten -> found({near, Route}, none, Call);
        Written -> begun(Written, Worker, Route, Call)
    end;
begun(Route = #route{pool = Pool}, Call) ->
    found(py_remote:open(call, request(Call), Route), {no_pool, Pool}, Call).

written(Worker, Request, Call = #call{target = Target, opts = Opts}) ->
    Watched = py_request:enter(py_request:begun(call, Worker, Target, Request, Opts), 0),
    QueueTime = py_wait:queue_time(Call#call.wait),
    Call#call{worker = Worker, request = Request, target = none, watched = Watched, queue_time = QueueTime}.

request(#call{target = Target, opts = Opts, caller = Caller}) ->
    Request = #{target => Target, opts => py_options:given(Opts)},
    case Opts of
        #{return := handle} -> Request#{keeper => Caller};
        #{} -> Request
    end.

%% The next node to ask, or none: then the reason of the last one counts.
found({far, Remote}, _Reason, Call) ->
    {noreply, Call#call{worker = Remote}};
found(none, Reason, Call) ->
    ended({error, Reason}, Call#call{worker = none});
found({near, Route = #route{pool = Pool}}, _Reason, Call = #call{target = Target, opts = Opts}) ->
    case py_pool:find(Pool) of
        {ok, Worker, Defaults} ->
            Checked = py_options:call(py_options:given(Opts), Defaults),
            begun(py_call:start(Worker, Target, Checked), Worker, Route, Call#call{opts = Checked});
        {error, Reason} ->
            not_found(Route, Reason, Call)
    end.

begun({ok, Request}, Worker, _Route, Call) ->
    {noreply, written(Worker, Request, Call#call{held = none})};
begun({full, Held}, _Worker, Route, Call) ->
    {noreply, Call#call{held = {Held, Route}}};
begun(unwritten, Worker, Route, Call) ->
    not_found(Route, py_port:end_of(Worker), Call);
begun({error, Reason}, _Worker, Route, Call) ->
    not_found(Route, Reason, Call).

not_found(Route, Reason, Call = #call{wait = Wait}) ->
    case py_wait:not_found(Route, Reason, Wait) of
        {wait, NewWait} -> {noreply, Call#call{wait = NewWait}};
        {error, Why} -> ended({error, Why}, Call);
        elsewhere -> found(py_remote:open(call, request(Call), Route), Reason, Call)
    end.

%%% gen_server callbacks. A server, because such a process survives that the code is loaded twice.

-include("py_entered.hrl").

-spec handle_info(term(), #call{}) -> {noreply, #call{}} | {stop, normal, #call{}}.
handle_info({Request, Payload}, Call = #call{request = Request, worker = Worker}) when is_reference(Request) ->
    Result = py_call:result(Worker, Payload),
    hold(Result, Call),
    ended(Result, Call);
handle_info({'DOWN', Request, process, _, Reason}, Call = #call{request = Request, worker = Worker}) ->
    ended({error, py_port:end_of(Worker, Reason)}, Call);
handle_info({'DOWN', Monitor, process, _, _}, Call = #call{monitor = Monitor}) ->
    given_up(Call);
handle_info(give_up, Call) ->
    given_up(Call);
handle_info({offer, Ref, Tries}, Call = #call{held = {Held = {Worker, Ref, _}, Route}}) ->
    case py_call:again(Held, Tries) of
        unwritten -> found({near, Route}, none, Call#call{held = none});
        Written -> begun(Written, Worker, Route, Call)
    end;
handle_info({'DOWN', Ref, process, _, _}, Call = #call{held = {{_, Ref, _}, Route}}) ->
    found({near, Route}, none, Call#call{held = none});
handle_info({find_worker, Route}, Call) ->
    found({near, Route}, none, Call);
handle_info(late, Call) ->
    cancel(Call),
    ended({error, timeout}, Call);
handle_info(_Other, Call = #call{worker = Near}) when Near =:= none; is_record(Near, worker) ->
    {noreply, Call};
handle_info(Message, Call = #call{worker = Remote}) ->
    case py_remote:message(Message, Remote) of
        {reply, Payload, Worker} -> ended(py_call:result(Worker, Payload), Call);
        {ended, Reason} -> ended({error, Reason}, Call);
        {refused, Reason, Found} -> found(Found, Reason, Call);
        unrelated -> {noreply, Call}
    end.

%% The keeper may have ended, or be about to, and would not let go of what it never got. On another node the relay
%% has done that.
hold({ok, {Worker, Id}}, #call{opts = #{return := handle}, caller = Keeper}) ->
    py_handle:hold(Keeper, py_frame:localized(Worker), Id);
hold(_Result, _Call) ->
    ok.

given_up(Call = #call{ref = Ref}) ->
    cancel(Call),
    watched({error, cancelled}, Call),
    finished(Call),
    forget({Ref, self()}),
    {stop, normal, Call}.

cancel(#call{held = {Held, _}}) -> py_call:withdraw(Held);
cancel(#call{worker = Worker = #worker{}, request = Request}) -> py_port:cancel(Worker, Request);
%% The relay monitors this process, which ends.
cancel(_Far) -> ok.

finished(#call{worker = none}) -> ok;
finished(#call{worker = #worker{}}) -> ok;
finished(#call{worker = Remote}) -> py_remote:finished(Remote).

cast_failed(Reason, #call{opts = Opts, watched = none, target = Target}) ->
    Pool = maps:get(pool, Opts, default),
    py_log:cast_failed(Reason, Pool, py_request:names(Target), Pool, none);
cast_failed(Reason, #call{opts = Opts, watched = Watched, worker = Worker, request = Ref}) ->
    py_log:cast_failed(Reason, maps:get(pool, Opts, default), py_request:names(Watched), Worker, Ref).

watched(_Result, #call{watched = none}) -> ok;
watched(Result, #call{watched = Request, queue_time = QueueTime}) ->
    py_request:ended(Request, Result, #{queue_time => QueueTime}).

ended(Result, Call = #call{ref = none}) ->
    finished(Call),
    watched(Result, Call),
    case Result of
        {ok, _} -> ok;
        {error, Reason} -> cast_failed(Reason, Call)
    end,
    {stop, normal, Call};
ended(Result, Call = #call{ref = Ref}) ->
    finished(Call),
    watched(Result, Call),
    Ref ! {Ref, Result},
    forget({Ref, self()}),
    {stop, normal, Call}.

forget(Row) ->
    try
        ets:match_delete(?TABLE, Row)
    catch
        %% The application has stopped, and the table with it.
        error:badarg -> true
    end.

%% @doc Removes what processes have left that were killed, and whose callers do not await them.
-spec sweep() -> ok.
sweep() ->
    [forget(Row) || Row = {_, Pid} <- ets:tab2list(?TABLE), not is_process_alive(Pid)],
    ok.

%% @doc Waits for the result of `spawn_call'. When the time is over the call is
%% given up, and its result is dropped.
-spec await(reference(), timeout()) -> {ok, term()} | {error, py_error:reason()}.
await(Ref, Timeout) ->
    receive
        {Ref, Result} ->
            Result;
        {'DOWN', Ref, process, Pid, Reason} ->
            forget({Ref, Pid}),
            {error, py_error:worker_exit(Reason)}
    after Timeout ->
        erlang:demonitor(Ref, [flush]),
        receive
            {Ref, Result} -> Result
        after 0 ->
            give_up(Ref),
            {error, timeout}
        end
    end.

give_up(Ref) ->
    try ets:lookup(?TABLE, Ref) of
        [{Ref, Pid}] ->
            Pid ! give_up,
            ok;
        [] ->
            ok
    catch
        error:badarg -> ok
    end.
