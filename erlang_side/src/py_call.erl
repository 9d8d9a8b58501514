%% @doc Calls: a request and its reply, from the process that makes them. The
%% reply comes to an alias that ends with the wait, so one that is late is
%% dropped.
%% @hidden
-module(py_call).

-include("py_worker.hrl").

-export([function/4, expression/2, run/3]).
-export([start/3, write/3, exec/3, again/2, withdraw/1, result/2]).
-export_type([target/0]).

-type target() :: py_frame:target().

%% A call is in the list of what is under way when it has run for so long. A larger number
%% hides more of them, a smaller one costs a microsecond for more of them.
-define(LONG_MS, 100).

%% @doc What to run: `Module:Function', or a method of an object, with its arguments.
-spec function(py_name:name() | py_handle:handle(), py_name:name(), [term()], py_options:pairs()) -> target().
function({py_handle, _} = Handle, F, Args, Kwargs) when is_list(Args) ->
    Names = {py_handle:identity(Handle), py_name:identifier(F)},
    py_frame:target(method, Names, Args, py_name:keywords(Kwargs));
function(M, F, Args, Kwargs) when is_list(Args) ->
    Names = {py_name:identifier(M), py_name:identifier(F)},
    py_frame:target(function, Names, Args, py_name:keywords(Kwargs));
function(_M, _F, Args, _Kwargs) ->
    py_badopt:raise(args, Args).

%% @doc What to evaluate, with local variables by name.
-spec expression(unicode:chardata(), py_options:pairs()) -> target().
expression(Code, Locals) ->
    py_frame:target(expression, {py_text:utf8(code, Code), <<>>}, [], py_name:locals(Locals)).

%% @doc Makes a call and waits for its result. `unwritten' if the worker has ended, or is about to: it never had
%% the request, and so much is left of the timeout.
-spec run(#worker{}, target(), map()) ->
    {ok, term()} | {error, py_error:reason()} | {unwritten, Left :: timeout()}.
run(Worker = #worker{pid = Pid}, Target, Opts = #{timeout := Timeout}) ->
    %% Everything is ready before the request is counted, so that a caller that is killed is hardly
    %% ever killed between that and the writing. The reference is made here, before the receive, so
    %% that a caller with a long mailbox does not search it (Efficiency Guide, "Receiving messages").
    Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
    Frame = py_frame:call(py_frame:address(Ref), Opts, Target),
    case py_load:reserve(call, Worker) of
        ok ->
            case has_ended(Ref) of
                true -> {unwritten, Timeout};
                false -> written(Worker, Ref, Frame, Target, Opts)
            end;
        Draining ->
            erlang:demonitor(Ref, [flush]),
            Draining
    end.

written(Worker, Ref, Frame, Target, Opts = #{timeout := Timeout}) ->
    py_callers:enter(Worker, Ref),
    case py_port:write(Worker, Frame, Timeout) of
        {written, Left} ->
            await(Worker, Ref, Left, py_request:begun(call, Worker, Target, Ref, Opts));
        timeout ->
            ok = withdraw({Worker, Ref, Frame}),
            {error, timeout};
        {closed, Left} ->
            erlang:demonitor(Ref, [flush]),
            {unwritten, Left}
    end.

%% Whether the worker is known to have ended before it was monitored. Its port may be open for a moment more,
%% and another worker may have the request.
has_ended(Ref) ->
    receive
        {'DOWN', Ref, process, _, _} -> true
    after 0 -> false
    end.

await(Worker, Ref, Timeout, Request) ->
    receive
        {Ref, Payload} ->
            ended(result(Worker, Payload), Request);
        {'DOWN', Ref, process, _, Reason} ->
            ended({error, py_port:end_of(Worker, Reason)}, Request)
    after min(Timeout, ?LONG_MS) ->
        await_long(Worker, Ref, left(Timeout), py_request:enter(Request, ?LONG_MS))
    end.

left(infinity) -> infinity;
left(Timeout) -> max(0, Timeout - ?LONG_MS).

await_long(Worker, Ref, Timeout, Request) ->
    receive
        {Ref, Payload} ->
            ended(result(Worker, Payload), Request);
        {'DOWN', Ref, process, _, Reason} ->
            ended({error, py_port:end_of(Worker, Reason)}, Request)
    after Timeout ->
        erlang:demonitor(Ref, [flush]),
        receive
            {Ref, Payload} -> ended(result(Worker, Payload), Request)
        after 0 ->
            py_port:cancel(Worker, Ref),
            ended({error, timeout}, Request)
        end
    end.

ended(Result, Request) ->
    py_request:ended(Request, Result),
    Result.

%% @doc Makes a call whose reply `{Ref, Payload}', for `result/2', or `DOWN' message
%% comes to the calling process later. Nobody waits for room in the port here.
-spec start(#worker{}, target(), py_options:flags()) ->
    {ok, Ref :: reference()} | {full, py_port:held()} | unwritten | {error, draining}.
start(Worker, Target, Opts) ->
    case py_load:reserve(call, Worker) of
        ok -> write(Worker, Target, Opts);
        Draining -> Draining
    end.

%% @doc The same for a call that is counted already.
-spec write(#worker{}, target(), py_options:flags()) -> {ok, Ref :: reference()} | {full, py_port:held()} | unwritten.
write(Worker, Target, Opts) ->
    write(Worker, fun(Address) -> py_frame:call(Address, Opts, Target) end).

write(Worker = #worker{pid = Pid}, ToFrame) ->
    Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
    Frame = ToFrame(py_frame:address(Ref)),
    py_callers:enter(Worker, Ref),
    case has_ended(Ref) of
        true -> unwritten;
        false -> again({Worker, Ref, Frame}, 0)
    end.

%% @doc Tries to write what was held. If it is `unwritten' the worker has ended, as `DOWN' with its reference
%% says, too.
-spec again(py_port:held(), Tries :: non_neg_integer()) -> {ok, Ref :: reference()} | {full, py_port:held()} | unwritten.
again(Held = {_Worker, Ref, _Frame}, Tries) ->
    case py_port:offer(Held, Tries) of
        written ->
            {ok, Ref};
        full ->
            {full, Held};
        closed ->
            erlang:demonitor(Ref, [flush]),
            unwritten
    end.

%% @doc Nobody waits for it any more: Python never gets it.
-spec withdraw(py_port:held()) -> ok.
withdraw({Worker, Ref, _Frame}) ->
    py_callers:leave(Worker, Ref),
    erlang:demonitor(Ref, [flush]),
    py_load:release(call, Worker).

%% @doc The same as {@link start/3} for code that runs in `__main__' of one worker, which a pool that is drained
%% runs, too.
-spec exec(#worker{}, binary(), py_options:flags()) -> {ok, Ref :: reference()} | {full, py_port:held()} | unwritten.
exec(Worker, Code, Flags) ->
    ok = py_load:exec(Worker),
    write(Worker, fun(Address) -> py_frame:exec(Address, Flags, Code) end).

%% @doc What a reply says. One that is no term is the worker's fault: it is
%% replaced.
-spec result(#worker{} | pid(), binary()) -> {ok, term()} | {error, py_error:reason()}.
result(#worker{pid = Pid}, Payload) ->
    result(Pid, Payload);
result(Pid, Payload) ->
    case py_etf:decode(Payload) of
        {ok, {ok, Value}} -> {ok, Value};
        {ok, {error, Reason}} -> {error, py_error:reason(Reason)};
        {error, atom_limit} -> {error, atom_limit};
        _ ->
            py_port:replace(Pid, bad_frame),
            {error, {worker_exit, bad_frame}}
    end.
