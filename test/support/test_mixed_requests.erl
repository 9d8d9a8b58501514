%% @doc What a user of the mixed chaos does: each function of the API, and the values that must come.
-module(test_mixed_requests).

-include("test_mixed.hrl").

-export([kinds/0, same/2]).

-import(test_mixed_context, [one_of/1, pause/1, seed/2, user_process/0]).

%% @doc What a user may do next: the kind that is counted, and what does it. `right' is its outcome if all is well.
-spec kinds() -> [{Kind :: atom(), fun(() -> right | allowed | {atom(), term()})}].
kinds() ->
    N = rand:uniform(1000),
    [
        {call, fun() -> same(N, py:call(?PYTHON, one_of([echo, aecho, nap, anap]), [N])) end},
        {call, fun() -> same(N, py:call(?PYTHON, one_of([nap, anap]), [N], #{seconds => 0.2})) end},
        {call, fun() -> same(#{1 => [N]}, py:call(?PYTHON, echo, [#{1 => [N]}], #{}, #{timeout => ?LOST_MS})) end},
        {failing_call, fun failing/0},
        {child, fun() -> same(N, py:call(?PYTHON, child, [N])) end},
        {spawn_call, fun() -> awaited(N, py:spawn_call(?PYTHON, one_of([echo, aecho, nap, anap]), [N])) end},
        {given_up, fun given_up/0},
        {cast, fun() -> cast() end},
        {eval, fun() -> same(N + 1, py:eval("n + 1", #{n => N})) end},
        {exec, fun() -> executed(py:exec("chaos = 1", #{replay => false})) end},
        {exec_replayed, fun() -> executed(py:exec("chaos_replayed = 1")) end},
        {callback, fun() -> called_back(N + 1, py:call(?PYTHON, one_of([called, acalled]), [N])) end},
        {nested, fun() -> called_back(5, py:call(?PYTHON, down, [5])) end},
        {handle, fun() -> handle(N) end},
        {channel, fun() -> channel(N) end},
        {pipe, fun() -> pipe(N) end},
        {collect, fun() -> same(lists:seq(0, N - 1), py:stream(?PYTHON, one_of([count, acount]), [N])) end},
        {collect, fun() -> same([0, 1, 2], py:stream(?PYTHON, forever, [N], #{}, #{take => 3})) end},
        {stream_eval, fun() -> same(lists:seq(0, N - 1), py:stream_eval("(i for i in range(n))", #{n => N})) end},
        {enumerable, fun() -> enumerable(N, py:enumerable(?PYTHON, one_of([count, acount]), [N])) end},
        {enumerable, fun() -> enumerable(N, py:enumerable_eval("iter(range(n))", #{n => N})) end},
        {fold, fun() -> fold(N) end},
        {metadata, fun() -> same(N, py:eval("__import__('erlang').metadata()['n']", #{}, #{metadata => #{n => N}})) end},
        {info, fun info/0},
        {killed_owner, fun() -> killed_owner() end},
        {other_owner, fun() -> other_owner() end}
        | [{stream, fun() -> stream(Spec) end} || Spec <- streams(N)]
    ].

%% @doc The outcome of a request that must return this value.
-spec same(Value :: term(), {ok, term()} | {error, term()}) -> right | {wrong | error, term()}.
same(Value, {ok, Value}) -> right;
same(_Value, {error, Reason}) -> {error, Reason};
same(Value, {ok, Other}) -> {wrong, {Value, Other}}.

executed(ok) -> right;
executed(Error) -> Error.

awaited(Value, Ref) ->
    same(Value, py:await(Ref, ?LOST_MS)).

failing() ->
    case py:call(?PYTHON, fail, []) of
        {error, {'ValueError', <<"no">>}} -> right;
        Other -> Other
    end.

given_up() ->
    case py:await(py:spawn_call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3}), rand:uniform(50)) of
        {error, timeout} -> right;
        Other -> Other
    end.

cast() ->
    N = erlang:unique_integer(),
    put({cast, N}, true),
    ok = py:cast(?PYTHON, send_back, [self(), N]),
    receive
        {<<"cast">>, N} = Answer ->
            self() ! Answer,
            right
    after 5000 -> allowed
    end.

%% The process that runs an Erlang function may be killed, and a call inside it may meet a dead worker.
called_back(Value, {ok, Value}) -> right;
called_back(_Value, {error, {<<"erlang.ErlangError">>, _}}) -> allowed;
called_back(_Value, {error, {<<"ErlangError">>, _}}) -> allowed;
called_back(Value, Other) -> same(Value, Other).

%% Whoever keeps it may be killed.
handle(N) ->
    case py:call(?PYTHON, 'Counter', [], #{}, #{return => handle}) of
        {ok, Handle} ->
            try
                used(N, Handle)
            after
                ok = py:release(Handle)
            end;
        Error ->
            Error
    end.

used(N, Handle) ->
    case {py:call(Handle, add, [N]), py:stream(Handle, below, [])} of
        {{ok, N}, {ok, Values}} -> same(lists:seq(0, N - 1), {ok, Values});
        {{error, {'ReferenceError', _}}, _} -> allowed;
        {{ok, N}, {error, {'ReferenceError', _}}} -> allowed;
        {{error, Reason}, _} -> {error, Reason};
        {{ok, N}, {error, Reason}} -> {error, Reason};
        Other -> {wrong, Other}
    end.

channel(N) ->
    {ok, In} = py:channel(#{window => 1 + rand:uniform(64)}),
    Ref = py:spawn_call(?PYTHON, one_of([total, atotal]), [In]),
    Sent = fill(N, In, Ref, 10),
    ok = py:channel_close(In),
    case {Sent, py:await(Ref, ?LOST_MS)} of
        {sent, Result} -> channel_result(N * (N + 1) div 2, Result);
        {closed, {error, Reason}} -> channel_result(none, {error, Reason});
        {closed, {ok, _}} -> allowed;
        Other -> {untold, Other}
    end.

%% Its own process may be killed: then Python sees that, or, at the very end, does not.
channel_result(_Value, {error, {<<"erlang.ErlangError">>, _}}) -> allowed;
channel_result(_Value, {error, {<<"ErlangError">>, _}}) -> allowed;
channel_result(Value, Result) -> same(Value, Result).

%% Where nothing reads, because the call was refused, there is no room, and no end either.
fill(0, _In, _Ref, _Tries) ->
    sent;
fill(N, In, Ref, Tries) ->
    case py:channel_send(In, N, ?LOST_MS div 10) of
        ok -> fill(N - 1, In, Ref, 10);
        {error, closed} -> closed;
        {error, timeout} when Tries =:= 0 -> timeout;
        {error, timeout} ->
            receive
                Ended when element(1, Ended) =:= Ref; element(2, Ended) =:= Ref ->
                    self() ! Ended,
                    closed
            after 0 -> fill(N, In, Ref, Tries - 1)
            end
    end.

%% Values in, and the same out again.
pipe(N) ->
    {ok, In} = py:channel(#{window => 8}),
    User = self(),
    Feeder = spawn(fun() ->
        user_process(),
        _ = [py:channel_send(In, I, ?LOST_MS) || I <- lists:seq(0, N - 1)],
        py:channel_close(In),
        User ! {fed, self()}
    end),
    Outcome = stream({one_of([piped, apiped]), In, #{window => 8}, {done, N}}),
    _ = py:channel_close(In),
    receive
        {fed, Feeder} -> ok
    after ?LOST_MS -> exit({feeder, process_info(Feeder, current_stacktrace)})
    end,
    case Outcome of
        {error, {Class, _}} when Class =:= <<"erlang.ErlangError">>; Class =:= <<"ErlangError">> -> allowed;
        _ -> Outcome
    end.

enumerable(N, Enumerable) ->
    try
        {done, {N, N}} = Enumerable({cont, {0, 0}}, fun(Value, {Value, Sum}) -> {cont, {Value + 1, Sum + 1}} end),
        right
    catch
        error:{python, Reason} -> {error, Reason};
        error:Reason -> {error, Reason}
    end.

fold(N) ->
    case py:stream_start(?PYTHON, count, [N]) of
        {ok, Ref} ->
            case py:stream_fold(fun(Value, Value) -> {cont, Value + 1} end, 0, Ref) of
                {ok, N} -> right;
                {ok, Less} -> {lost, {fold, N, Less}};
                {error, Reason, _} -> {error, Reason}
            end;
        Error ->
            Error
    end.

info() ->
    #{workers := _} = py:info(default),
    #{} = py:info(),
    _ = iolist_size(py_prometheus:format()),
    _ = py:functions(),
    right.

%% Nothing is left of what it did.
killed_owner() ->
    Seed = rand:uniform(1000000),
    {Pid, Monitor} = spawn_monitor(fun() ->
        user_process(),
        seed(Seed, 1),
        case rand:uniform(4) of
            1 -> py:call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3});
            2 -> py:stream(?PYTHON, one_of([forever, aforever]), [1]);
            3 -> py:await(py:spawn_call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3}));
            4 ->
                {ok, In} = py:channel(),
                {ok, _} = py:stream_start(?PYTHON, one_of([piped, apiped]), [In]),
                {ok, _} = py:call(?PYTHON, 'Counter', [], #{}, #{return => handle}),
                pause(10000)
        end
    end),
    pause(rand:uniform(60)),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> right
    end.

other_owner() ->
    User = self(),
    Seed = rand:uniform(1000000),
    {Owner, Monitor} = spawn_monitor(fun() ->
        user_process(),
        seed(Seed, 1),
        receive
            {User, Ref} -> exit({outcome, read(Ref, 0, {done, 300}, fun(V) -> V end)})
        end
    end),
    case py:stream_start(?PYTHON, one_of([count, acount, slow]), [300], #{owner => Owner}) of
        {ok, Ref} ->
            Owner ! {self(), Ref},
            receive
                {'DOWN', Monitor, process, Owner, {outcome, Outcome}} -> Outcome;
                {'DOWN', Monitor, process, Owner, Why} -> {wrong, Why}
            end;
        Error ->
            exit(Owner, kill),
            receive
                {'DOWN', Monitor, process, Owner, _} -> Error
            end
    end.

%%% Streams: the function, its argument, the options, and what must come.

streams(N) ->
    [
        {count, N, #{}, {done, N}},
        {acount, 3000, #{window => 16}, {done, 3000}},
        {forever, 0, #{batch => 8, window => 64}, {cancel, 3000}},
        {aforever, 0, #{batch => 100}, {cancel, 500}},
        {aforever, 0, #{take => 500}, {done, 500}},
        {forever, 0, #{take => N}, {done, N}},
        {slow, 50, #{timeout => ?LOST_MS}, {done, 50}},
        {aslow, 50, #{demand => 51}, {done, 50}},
        {count, 200, #{demand => 7}, {demand, 7, 200}},
        {acount, 200, #{demand => 7, batch => 3}, {demand, 7, 200}},
        {count, N, #{format => json}, {done, N}},
        {acount, N, #{format => msgpack, window_bytes => 100}, {done, N}},
        {forever, 0, #{}, {cancel, 0}}
    ].

stream({Function, Argument, Opts, Expected}) ->
    case py:stream_start(?PYTHON, Function, [Argument], Opts) of
        {ok, Ref} ->
            Outcome = read(Ref, 0, Expected, encoded(maps:get(format, Opts, term))),
            %% Nothing comes after the end: `clean/2' finds it, and it is asked for, too.
            case py:stream_next(Ref, 0) of
                timeout -> Outcome;
                More -> {doubled, {More, Outcome}}
            end;
        Error ->
            Error
    end.

encoded(term) -> fun(N) -> N end;
encoded(json) -> fun integer_to_binary/1;
encoded(msgpack) ->
    fun
        (N) when N < 128 -> <<N>>;
        (N) when N < 256 -> <<16#CC, N>>;
        (N) -> <<16#CD, N:16>>
    end.

read(Ref, Next, {cancel, Enough}, _Encoded) when Next >= Enough ->
    case rand:uniform(2) of
        1 ->
            ok = py:stream_cancel(Ref, [flush]),
            right;
        2 ->
            ok = py:stream_cancel(Ref),
            case py:stream_fold(fun(_, ok) -> {cont, ok} end, ok, Ref) of
                {error, cancelled, ok} -> right;
                {error, Reason, ok} -> {error, Reason};
                {ok, ok} -> {wrong, done_without_end}
            end
    end;
read(Ref, Next, {demand, Step, Length}, Encoded) when Next > 0, Next rem Step =:= 0 ->
    ok = py:stream_demand(Ref, Step),
    next(Ref, Next, {demand, Step, Length}, Encoded);
read(Ref, Next, Expected, Encoded) ->
    next(Ref, Next, Expected, Encoded).

next(Ref, Next, Expected, Encoded) ->
    case py:stream_next(Ref, ?LOST_MS) of
        {ok, Values} when is_list(Values) -> values(Values, Ref, Next, Expected, Encoded);
        {ok, Value} -> values([Value], Ref, Next, Expected, Encoded);
        done when Expected =:= {done, Next} -> right;
        done when element(1, Expected) =:= demand, element(3, Expected) =:= Next -> right;
        done -> {lost, {done, Next, Expected}};
        {error, Reason} -> {error, Reason};
        timeout -> {untold, {Next, Expected, where(stream_process(Ref))}}
    end.

where(Process) ->
    try
        process_info(Process, [current_stacktrace, messages])
    catch
        error:badarg -> Process
    end.

stream_process(Ref) ->
    {ok, Pid} = py_streams:process(Ref),
    Pid.

values([], Ref, Next, Expected, Encoded) ->
    read(Ref, Next, Expected, Encoded);
values([Value | Rest], Ref, Next, Expected, Encoded) ->
    case Encoded(Next) of
        Value when Rest =:= [] -> read(Ref, Next + 1, Expected, Encoded);
        Value -> values(Rest, Ref, asked(Ref, Next + 1, Expected), Expected, Encoded);
        _ when is_integer(Value), Value < Next -> {doubled, {Value, Next}};
        _ -> {lost, {Value, Next}}
    end.

%% Of a batch whose last value is not the one after which more is asked for.
asked(Ref, Next, {demand, Step, _}) when Next rem Step =:= 0 ->
    ok = py:stream_demand(Ref, Step),
    Next;
asked(_Ref, Next, _Expected) ->
    Next.
