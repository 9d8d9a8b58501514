%% @doc A stream as a fun by the reduce protocol of Elixir's `Enumerable'. What `Enum' and
%% `Stream' make of it is in test/elixir.
-module(py_enumerable_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([
    it_is_walked_to_its_end/1,
    each_walk_begins_anew/1,
    nothing_begins_before_the_first_value/1,
    a_halt_closes_the_generator/1,
    an_exception_of_the_consumer_closes_the_generator/1,
    a_wrong_command_is_an_error/1,
    it_is_suspended_and_goes_on/1,
    a_continuation_is_for_its_process/1,
    a_continuation_is_called_once/1,
    an_exception_of_python_is_an_error/1,
    the_end_of_a_worker_is_an_error/1,
    a_wrong_argument_is_found_at_once/1,
    options_hold/1,
    foreach_goes_through_all/1,
    nothing_is_left_in_the_mailbox/1,
    it_is_fast/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        it_is_walked_to_its_end,
        each_walk_begins_anew,
        nothing_begins_before_the_first_value,
        a_halt_closes_the_generator,
        an_exception_of_the_consumer_closes_the_generator,
        a_wrong_command_is_an_error,
        it_is_suspended_and_goes_on,
        a_continuation_is_for_its_process,
        a_continuation_is_called_once,
        an_exception_of_python_is_an_error,
        the_end_of_a_worker_is_an_error,
        a_wrong_argument_is_found_at_once,
        options_hold,
        foreach_goes_through_all,
        nothing_is_left_in_the_mailbox,
        it_is_fast
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, python_path => [?config(data_dir, Config)]},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% All values, in order, then `done'; of functions and of expressions, with options.
-spec it_is_walked_to_its_end(ct_suite:ct_config()) -> ok.
it_is_walked_to_its_end(_Config) ->
    ?assertEqual(lists:seq(0, 4999), listed(py:enumerable(builtins, range, [5000]))),
    ?assertEqual([], listed(py:enumerable(builtins, range, [0]))),
    ?assertEqual([3, 4], listed(py:enumerable(<<"itertools">>, "count", [], #{kwargs => #{start => 3}, take => 2}))),
    ?assertEqual([0, 1, 4], listed(py:enumerable_eval(<<"(x * x for x in range(3))">>))),
    ?assertEqual([5, 6], listed(py:enumerable_eval("iter([a, a + 1])", #{a => 5}))),
    ?assertEqual([<<"1">>, <<"2">>], listed(py:enumerable_eval("[1, 2]", [], [{format, json}]))).

%% Two walks are two streams.
-spec each_walk_begins_anew(ct_suite:ct_config()) -> ok.
each_walk_begins_anew(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()], #{take => 3}),
    [
        begin
            ?assertEqual([0, 1, 2], listed(Numbers)),
            begins_and_closes()
        end
     || _ <- [1, 2]
    ],
    ok.

%% A walk that begins with anything but `cont' starts nothing.
-spec nothing_begins_before_the_first_value(ct_suite:ct_config()) -> ok.
nothing_begins_before_the_first_value(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()]),
    ?assertEqual({halted, acc}, Numbers({halt, acc}, fun collect/2)),
    {suspended, acc, Continue} = Numbers({suspend, acc}, fun collect/2),
    ?assertEqual({halted, other}, Continue({halt, other})),
    receive begins -> error(it_began) after 0 -> ok end.

%% The generator of a walk that is halted is closed, sync or async.
-spec a_halt_closes_the_generator(ct_suite:ct_config()) -> ok.
a_halt_closes_the_generator(_Config) ->
    [
        begin
            Numbers = py:enumerable(walked, Function, [self()]),
            ?assertEqual({halted, 2}, Numbers({cont, none}, fun(2, _) -> {halt, 2}; (_, A) -> {cont, A} end)),
            begins_and_closes()
        end
     || Function <- [numbers, numbers_async]
    ],
    ok.

%% So is one whose consumer raises, exits or throws, whose exception comes through as it is.
-spec an_exception_of_the_consumer_closes_the_generator(ct_suite:ct_config()) -> ok.
an_exception_of_the_consumer_closes_the_generator(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()]),
    ?assertError(oh, Numbers({cont, []}, fun(_, _) -> error(oh) end)),
    begins_and_closes(),
    ?assertExit(oh, Numbers({cont, []}, fun(_, _) -> exit(oh) end)),
    begins_and_closes(),
    ?assertThrow(oh, py:foreach(fun(_) -> throw(oh) end, Numbers)),
    begins_and_closes().

%% A consumer that does not keep to the protocol gets an error, and the generator closed.
-spec a_wrong_command_is_an_error(ct_suite:ct_config()) -> ok.
a_wrong_command_is_an_error(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()]),
    ?assertError({bad_return_value, more}, Numbers({cont, []}, fun(_, _) -> more end)),
    begins_and_closes(),
    ?assertError(function_clause, Numbers({cont, []}, fun(_) -> more end)).

%% Value by value, as `Stream.zip' does, with a command of its own for each.
-spec it_is_suspended_and_goes_on(ct_suite:ct_config()) -> ok.
it_is_suspended_and_goes_on(_Config) ->
    Suspend = fun(Value, Acc) -> {suspend, [Value | Acc]} end,
    Numbers = py:enumerable(walked, numbers, [self()]),
    {suspended, [], Begin} = Numbers({suspend, []}, Suspend),
    {suspended, [0], First} = Begin({cont, []}),
    {suspended, [1, 0], Second} = First({cont, [0]}),
    {suspended, [other], Third} = Second({suspend, [other]}),
    {suspended, [2], Fourth} = Third({cont, []}),
    ?assertEqual({halted, last}, Fourth({halt, last})),
    begins_and_closes(),
    Two = py:enumerable(builtins, range, [1]),
    {suspended, [0], AtTheEnd} = Two({cont, []}, Suspend),
    ?assertEqual({done, acc}, AtTheEnd({cont, acc})).

%% The values come to the process that has begun; another is refused by name.
-spec a_continuation_is_for_its_process(ct_suite:ct_config()) -> ok.
a_continuation_is_for_its_process(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()]),
    {suspended, 0, Continue} = Numbers({cont, []}, fun(Value, _) -> {suspend, Value} end),
    {_, Monitor} = spawn_monitor(fun() ->
        try
            Continue({cont, []})
        catch
            error:Reason -> exit({refused, Reason})
        end
    end),
    receive
        {'DOWN', Monitor, process, _, Why} -> ?assertMatch({refused, {not_owner, _}}, Why)
    end,
    {halted, ok} = Continue({halt, ok}),
    begins_and_closes(),
    %% One that has not begun has no owner yet.
    {suspended, [], Begin} = Numbers({suspend, []}, fun(Value, _) -> {halt, Value} end),
    {_, Other} = spawn_monitor(fun() -> exit(Begin({cont, []})) end),
    receive
        {'DOWN', Other, process, _, Result} -> ?assertEqual({halted, 0}, Result)
    end,
    begins_and_closes().

%% A second call would take the values of the first; it says so and does not wait for ever.
-spec a_continuation_is_called_once(ct_suite:ct_config()) -> ok.
a_continuation_is_called_once(_Config) ->
    Numbers = py:enumerable(builtins, range, [2]),
    {suspended, 0, Continue} = Numbers({cont, []}, fun(Value, _) -> {suspend, Value} end),
    {suspended, 1, Next} = Continue({cont, []}),
    ?assertError({already_resumed, _}, Continue({cont, []})),
    {done, ok} = Next({cont, ok}),
    ?assertError({already_resumed, _}, Next({cont, ok})).

%% With its class and message, after the values before it; the shell prints a sentence.
-spec an_exception_of_python_is_an_error(ct_suite:ct_config()) -> ok.
an_exception_of_python_is_an_error(_Config) ->
    Fail = py:enumerable(walked, fail, [2]),
    Seen = fun(Value, _) ->
        put(seen, [Value | get(seen)]),
        {cont, []}
    end,
    put(seen, []),
    try
        Fail({cont, []}, Seen),
        error(no_error)
    catch
        error:Reason:Stack ->
            ?assertEqual({'ValueError', <<"no more">>}, Reason),
            Printed = unicode:characters_to_list(erl_error:format_exception(error, Reason, Stack)),
            ?assertMatch({match, _}, re:run(Printed, "ValueError: no more"))
    end,
    ?assertEqual([1, 0], erase(seen)),
    ?assertError({'NameError', _}, listed(py:enumerable_eval("nobody"))),
    ?assertError({no_pool, nobody}, listed(py:enumerable(builtins, range, [1], #{pool => nobody}))).

%% So is whatever else ends a stream.
-spec the_end_of_a_worker_is_an_error(ct_suite:ct_config()) -> ok.
the_end_of_a_worker_is_an_error(_Config) ->
    {ok, _} = py:start_pool(brittle, #{workers => 1, python_path => [filename:dirname(source("walked.py"))]}),
    Leave = py:enumerable(walked, leave, [2], #{pool => brittle}),
    ?assertError({worker_exit, 3}, listed(Leave)),
    ok = py:stop_pool(brittle),
    ?assertError(timeout, listed(py:enumerable_eval("__import__('time').sleep(5) or []", #{}, #{timeout => 20}))).

%% Not only when it is walked.
-spec a_wrong_argument_is_found_at_once(ct_suite:ct_config()) -> ok.
a_wrong_argument_is_found_at_once(_Config) ->
    ?assertError({badopt, {widnow, 1}}, py:enumerable(builtins, range, [1], #{widnow => 1})),
    ?assertError({badopt, {owner, _}}, py:enumerable(builtins, range, [1], #{owner => self()})),
    ?assertError({badopt, {demand, 1}}, py:enumerable(builtins, range, [1], #{demand => 1})),
    ?assertError({badopt, {args, 1}}, py:enumerable(builtins, range, 1)),
    ?assertError({invalid_python_identifier, _}, py:enumerable(builtins, "no name", [])),
    ?assertError({badopt, {kwargs, _}}, py:enumerable_eval("[]", #{}, #{kwargs => #{}})),
    ?assertError({badopt, {code, 1}}, py:enumerable_eval(1)),
    ?assertError({badopt, {locals, 1}}, py:enumerable_eval("1", 1)).

%% The window bounds how far the generator goes ahead of a walk that stands still.
-spec options_hold(ct_suite:ct_config()) -> ok.
options_hold(_Config) ->
    Numbers = py:enumerable(walked, numbers, [self()], #{window => 3, batch => 2}),
    {suspended, 0, Continue} = Numbers({cont, []}, fun(Value, _) -> {suspend, Value} end),
    {message_queue_len, Length} = process_info(self(), message_queue_len),
    ?assert(Length =< 1 + 3),
    {halted, ok} = Continue({halt, ok}),
    begins_and_closes(),
    ?assertEqual([1, 2, 3], listed(py:enumerable_eval("[1, 2, 3]", #{}, #{batch => 2}))).

%% As lists:foreach/2, over an enumerable and over a stream that was started.
-spec foreach_goes_through_all(ct_suite:ct_config()) -> ok.
foreach_goes_through_all(_Config) ->
    Self = self(),
    ok = py:foreach(fun(Value) -> Self ! {each, Value} end, py:enumerable(builtins, range, [3])),
    {ok, Ref} = py:stream_start(builtins, range, [3, 6], #{batch => 2}),
    ok = py:foreach(fun(Value) -> Self ! {each, Value} end, Ref),
    ?assertEqual(lists:seq(0, 5), [receive {each, Value} -> Value after 0 -> none end || _ <- lists:seq(0, 5)]),
    {ok, Failing} = py:stream_start(walked, fail, [1]),
    ?assertEqual({error, {'ValueError', <<"no more">>}}, py:foreach(fun(_) -> ok end, Failing)),
    ?assertError({'ValueError', <<"no more">>}, py:foreach(fun(_) -> ok end, py:enumerable(walked, fail, [1]))).

%% Whatever ended the walks.
-spec nothing_is_left_in_the_mailbox(ct_suite:ct_config()) -> ok.
nothing_is_left_in_the_mailbox(_Config) ->
    [
        begin
            Count = py:enumerable(itertools, count, []),
            {halted, N} = Count({cont, []}, fun(V, _) when V < N -> {cont, []}; (V, _) -> {halt, V} end)
        end
     || N <- [0, 1, 5, 100, 3000]
    ],
    ?assertError(stop, listed(fun(Command, Fun) ->
        (py:enumerable(itertools, count, []))(Command, fun(10, _) -> error(stop); (V, A) -> Fun(V, A) end)
    end)),
    ?assertEqual({message_queue_len, 0}, process_info(self(), message_queue_len)).

%% As fast as a stream whose values come in lists.
-spec it_is_fast(ct_suite:ct_config()) -> {comment, string()}.
it_is_fast(_Config) ->
    Count = 200000,
    Numbers = py:enumerable(builtins, range, [Count]),
    {Micros, {done, Sum}} = timer:tc(fun() -> Numbers({cont, 0}, fun(V, S) -> {cont, S + V} end) end),
    ?assertEqual(Count * (Count - 1) div 2, Sum),
    {comment, io_lib:format("~b values a second", [Count * 1000000 div Micros])}.

%%% What the cases share.

listed(Enumerable) ->
    {done, Values} = Enumerable({cont, []}, fun collect/2),
    lists:reverse(Values).

collect(Value, Acc) ->
    {cont, [Value | Acc]}.

begins_and_closes() ->
    receive begins -> ok end,
    receive closed -> ok end.

source(File) ->
    filename:join([filename:dirname(code:which(?MODULE)), "py_enumerable_SUITE_data", File]).
