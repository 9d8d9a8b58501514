%% @doc Calls that do not block their caller: `py:cast' and `py:spawn_call'. Each has a
%% process that waits for the result and ends with the call.
%%
%% The table py_async_call maps the reference of a call to its process, for
%% {@link await/2}, which may give it up.
%% @hidden
-module(py_async_call).
-behaviour(gen_server).

-include("py_worker.hrl").

-export([await/2, cast/3, spawn_call/3, tables/0]).
-export([enter/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).

-define(TABLE, py_async_call).

-record(call, {
    %% What the caller waits for, and its monitor; none of a cast.
    ref :: reference() | none,
    monitor :: reference() | none,
    worker :: #worker{},
    request = none :: reference() | none
}).

%% @doc Makes the table; its owner outlives every call.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc Makes a call and drops its result. A failure is logged.
-spec cast(#worker{}, py_call:target(), timeout()) -> ok.
cast(Worker, Target, Timeout) ->
    _ = proc_lib:spawn(?MODULE, enter, [none, Worker, Target, Timeout]),
    ok.

%% @doc Makes a call whose result comes later, to the process that calls this, as
%% the message `{Ref, Result}'. If that process ends first, the Python code is
%% interrupted.
-spec spawn_call(#worker{}, py_call:target(), timeout()) -> reference().
spawn_call(Worker, Target, Timeout) ->
    {Pid, Ref} = proc_lib:spawn_opt(?MODULE, enter, [self(), Worker, Target, Timeout], [
        {monitor, [{alias, reply_demonitor}]}
    ]),
    ets:insert(?TABLE, {Ref, Pid}),
    Pid ! {'begin', Ref},
    Ref.

%% @private
-spec enter(Caller :: pid() | none, #worker{}, py_call:target(), timeout()) -> no_return().
enter(none, Worker, Target, Timeout) ->
    enter(#call{ref = none, monitor = none, worker = Worker}, Target, Timeout);
enter(Caller, Worker, Target, Timeout) ->
    Monitor = erlang:monitor(process, Caller),
    receive
        {'begin', Ref} ->
            enter(#call{ref = Ref, monitor = Monitor, worker = Worker}, Target, Timeout);
        {'DOWN', Monitor, process, _, _} ->
            forget({'_', self()}),
            exit(normal)
    end.

enter(Call = #call{worker = Worker}, Target, Timeout) ->
    case py_call:start(Worker, Target) of
        {ok, Request} ->
            _ = is_integer(Timeout) andalso erlang:send_after(Timeout, self(), late),
            gen_server:enter_loop(?MODULE, [], Call#call{request = Request});
        Draining ->
            _ = ended(Draining, Call),
            exit(normal)
    end.

%%% gen_server callbacks. A server, because such a process survives that the code is loaded twice.

-spec init(term()) -> ignore.
init(_) ->
    ignore.

-spec handle_call(term(), gen_server:from(), #call{}) -> {reply, term(), #call{}}.
handle_call(_Other, _From, Call) ->
    {reply, {error, unknown}, Call}.

-spec handle_cast(term(), #call{}) -> {noreply, #call{}}.
handle_cast(_Other, Call) ->
    {noreply, Call}.

-spec handle_info(term(), #call{}) -> {noreply, #call{}} | {stop, normal, #call{}}.
handle_info({Request, Payload}, Call = #call{request = Request, worker = Worker}) ->
    ended(py_call:result(Worker, Payload), Call);
handle_info({'DOWN', Request, process, _, Reason}, Call = #call{request = Request}) ->
    ended({error, py_error:worker_exit(Reason)}, Call);
handle_info({'DOWN', Monitor, process, _, _}, Call = #call{monitor = Monitor}) ->
    given_up(Call);
handle_info(give_up, Call) ->
    given_up(Call);
handle_info(late, Call = #call{request = Request, worker = Worker}) ->
    py_port:cancel(Worker, Request),
    ended({error, timeout}, Call);
handle_info(_Other, Call) ->
    {noreply, Call}.

given_up(Call = #call{ref = Ref, request = Request, worker = Worker}) ->
    py_port:cancel(Worker, Request),
    forget({Ref, self()}),
    {stop, normal, Call}.

ended(Result, Call = #call{ref = none}) ->
    case Result of
        {ok, _} -> ok;
        {error, Reason} -> py_log:cast_failed(Reason)
    end,
    {stop, normal, Call};
ended(Result, Call = #call{ref = Ref}) ->
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

%% A result is its caller's, and nobody else's to see.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    py_status:without_values(Status).

%% @doc Waits for the result of `spawn_call'. When the time is over the call is
%% given up, and its result is dropped.
-spec await(reference(), timeout()) -> {ok, term()} | {error, py_error:reason()}.
await(Ref, Timeout) ->
    receive
        {Ref, Result} ->
            Result;
        {'DOWN', Ref, process, _, Reason} ->
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
