%% @doc Calls that do not block their caller: `py:cast' and `py:spawn_call'. Each has a
%% process that waits for the result and ends with the call.
%%
%% The table py_async_call maps the reference of a call to its process, for
%% {@link await/2}, which may give it up.
%% @hidden
-module(py_async_call).

-include("py_worker.hrl").

-export([await/2, cast/3, spawn_call/3, tables/0]).

-define(TABLE, py_async_call).

%% @doc Makes the table; its owner outlives every call.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc Makes a call and drops its result. A failure is logged.
-spec cast(#worker{}, py_call:target(), timeout()) -> ok.
cast(Worker, Target, Timeout) ->
    _ = spawn(fun() ->
        case py_call:run(Worker, Target, Timeout) of
            {ok, _} -> ok;
            {error, Reason} -> py_log:cast_failed(Reason)
        end
    end),
    ok.

%% @doc Makes a call whose result comes later, to the process that calls this, as
%% the message `{Ref, Result}'. If that process ends first, the Python code is
%% interrupted.
-spec spawn_call(#worker{}, py_call:target(), timeout()) -> reference().
spawn_call(Worker, Target, Timeout) ->
    Caller = self(),
    {Pid, Ref} = spawn_opt(fun() -> init(Caller, Worker, Target, Timeout) end, [
        {monitor, [{alias, reply_demonitor}]}
    ]),
    ets:insert(?TABLE, {Ref, Pid}),
    Pid ! {'begin', Ref},
    Ref.

init(Caller, Worker, Target, Timeout) ->
    Monitor = erlang:monitor(process, Caller),
    receive
        {'begin', Ref} ->
            Ref ! {Ref, call(Worker, Target, Monitor, Timeout)},
            forget({Ref, self()});
        {'DOWN', Monitor, process, _, _} ->
            forget({'_', self()})
    end.

forget(Row) ->
    try
        ets:match_delete(?TABLE, Row)
    catch
        %% The application has stopped, and the table with it.
        error:badarg -> true
    end.

call(Worker, Target, Monitor, Timeout) ->
    case py_call:start(Worker, Target) of
        {ok, Call} -> wait(Worker, Call, Monitor, Timeout);
        Draining -> Draining
    end.

wait(Worker, Call, Monitor, Timeout) ->
    receive
        {Call, Payload} ->
            py_call:result(Worker, Payload);
        {'DOWN', Call, process, _, Reason} ->
            {error, py_error:worker_exit(Reason)};
        give_up ->
            py_call:abandon(Worker, Call);
        {'DOWN', Monitor, process, _, _} ->
            py_call:abandon(Worker, Call)
    after Timeout ->
        py_call:abandon(Worker, Call),
        {error, timeout}
    end.

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
