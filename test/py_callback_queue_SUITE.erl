%% @doc What runs at a time of the callbacks of one worker, and what waits. The port is a
%% program that sends everything back, so that a callback's result is a message here.
-module(py_callback_queue_SUITE).

-include_lib("erlang_python/erlang_side/src/py_worker.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    all_run_below_the_limit/1,
    the_rest_waits_in_order/1,
    one_more_starts_when_none_ends/1,
    the_pause_is_halved/1,
    one_that_is_killed_has_a_result/1,
    an_older_timer_starts_nothing/1,
    bytes_are_acknowledged/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        all_run_below_the_limit,
        the_rest_waits_in_order,
        one_more_starts_when_none_ends,
        the_pause_is_halved,
        one_that_is_killed_has_a_result,
        an_older_timer_starts_nothing,
        bytes_are_acknowledged
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = application:set_env(erlang_python, max_callbacks, 2),
    ok = py_functions:tables(),
    Self = self(),
    %% A callback says that it has started, and ends when it is let.
    ok = py_functions:register(<<"wait">>, fun([N]) ->
        Self ! {started, N, self()},
        receive
            finish -> N
        end
    end),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    ok = application:unset_env(erlang_python, max_callbacks),
    true = ets:delete(py_functions),
    ok.

-spec all_run_below_the_limit(ct_suite:ct_config()) -> ok.
all_run_below_the_limit(_Config) ->
    {Port, Queue} = new(),
    Two = add([1, 2], Queue),
    [finish(started(N)) || N <- [2, 1]],
    _ = ended(ended(Two)),
    ?assertEqual([{ok, 1}, {ok, 2}], lists:sort([result(Port), result(Port)])).

%% The others start one by one as those before them end, in the order in which they came.
-spec the_rest_waits_in_order(ct_suite:ct_config()) -> ok.
the_rest_waits_in_order(_Config) ->
    {_, Queue} = new(),
    Full = add([1, 2, 3, 4, 5], Queue),
    {One, Two} = {started(1), started(2)},
    nothing_started(),
    finish(Two),
    AfterTwo = ended(Full),
    Three = started(3),
    nothing_started(),
    %% What comes now waits behind the others.
    More = add([6], AfterTwo),
    finish(One),
    AfterOne = ended(More),
    Four = started(4),
    [finish(Pid) || Pid <- [Three, Four]],
    _ = ended(ended(AfterOne)),
    [started(N) || N <- [5, 6]],
    ok.

%% Callbacks that wait for each other get on, however small the limit is.
-spec one_more_starts_when_none_ends(ct_suite:ct_config()) -> ok.
one_more_starts_when_none_ends(_Config) ->
    {_, Queue} = new(),
    Full = add([1, 2, 3, 4], Queue),
    Pids = [started(N) || N <- [1, 2]],
    Third = stalled(Full),
    Three = started(3),
    nothing_started(),
    Fourth = stalled(Third),
    Four = started(4),
    %% Nobody waits any more, so the timer that runs is the last one.
    Last = stalled(Fourth),
    [finish(Pid) || Pid <- [Three, Four | Pids]],
    _ = lists:foldl(fun(_, Q) -> ended(Q) end, Last, [1, 2, 3, 4]),
    no_timer().

%% The pause is half as long each time, and as it was when one has ended. If one has ended
%% while the timer ran, nothing starts by it.
-spec the_pause_is_halved(ct_suite:ct_config()) -> ok.
the_pause_is_halved(_Config) ->
    {_, Queue} = new(),
    Tracer = trace_timers(),
    Full = add(lists:seq(1, 20), Queue),
    [One, _] = [started(N) || N <- [1, 2]],
    Stalled = lists:foldl(fun(_, Q) -> stalled(Q) end, Full, lists:seq(1, 9)),
    [started(N) || N <- lists:seq(3, 11)],
    %% More than may run do already, so its end starts nothing.
    finish(One),
    Ended = ended(Stalled),
    nothing_started(),
    Again = stalled(Ended),
    nothing_started(),
    _ = stalled(Again),
    started(12),
    ?assertEqual([64, 32, 16, 8, 4, 2, 1, 1, 1, 1, 64, 32], timers(Tracer)).

%% Python gets a result for one whose process ends without.
-spec one_that_is_killed_has_a_result(ct_suite:ct_config()) -> ok.
one_that_is_killed_has_a_result(_Config) ->
    {Port, Queue} = new(),
    One = add([1], Queue),
    exit(started(1), kill),
    _ = ended(One),
    ?assertMatch({error, exit, killed, [], _}, result(Port)).

%% A timer has fired once; the queue knows which is its own.
-spec an_older_timer_starts_nothing(ct_suite:ct_config()) -> ok.
an_older_timer_starts_nothing(_Config) ->
    {_, Queue} = new(),
    Full = add([1, 2, 3], Queue),
    [started(N) || N <- [1, 2]],
    ?assertError(function_clause, py_callback_queue:stalled(make_ref(), Full)).

%% Python gets the number of bytes that were taken in steps of one MiB; those of callbacks that wait
%% are not taken.
-spec bytes_are_acknowledged(ct_suite:ct_config()) -> ok.
bytes_are_acknowledged(_Config) ->
    {Port, Queue} = new(),
    Large = binary:copy(<<"x">>, 600 * 1024),
    Add = fun(N, Q) -> py_callback_queue:add(<<N>>, payload([{N, Large}]), Q) end,
    Size = byte_size(payload([{1, Large}])),
    Full = lists:foldl(Add, Queue, [1, 2, 3, 4]),
    [{_, One}, {_, Two}] = [started({N, Large}) || N <- [1, 2]],
    ?assertEqual(2 * Size, acknowledged(Port)),
    [Pid ! finish || Pid <- [One, Two]],
    _ = ended(ended(Full)),
    ?assertEqual(4 * Size, acknowledged(Port)),
    [{_, Three}, {_, Four}] = [started({N, Large}) || N <- [3, 4]],
    [Pid ! finish || Pid <- [Three, Four]],
    ?assertEqual([{ok, {N, Large}} || N <- [1, 2, 3, 4]], lists:sort([result(Port) || _ <- [1, 2, 3, 4]])).

%%% What the cases share.

new() ->
    Port = open_port({spawn, "cat 2>/dev/null"}, [{packet, 4}, binary]),
    Load = py_load:new(),
    Worker = #worker{pid = self(), port = Port, load = Load, max_streams = 1, kill_after = infinity},
    {Port, py_callback_queue:new(Worker)}.

add(Numbers, Queue) ->
    Add = fun(N, Q) -> py_callback_queue:add(<<N>>, payload([N]), Q) end,
    lists:foldl(Add, Queue, Numbers).

payload(Args) ->
    term_to_binary({call, <<"wait">>, Args}).

started({N, Large}) ->
    receive
        {started, {N, Large}, Pid} -> {N, Pid}
    after ?LONG -> error({not_started, N})
    end;
started(N) ->
    receive
        {started, N, Pid} -> Pid
    after ?LONG -> error({not_started, N})
    end.

%% A process that was started before this one ends, and would have said so.
nothing_started() ->
    receive
        {started, N, _} -> error({started, N})
    after 0 -> ok
    end.

finish(Pid) ->
    Pid ! finish.

ended(Queue) ->
    receive
        {'DOWN', Monitor, process, _, Reason} -> py_callback_queue:ended(Monitor, Reason, Queue)
    after ?LONG -> error(none_ended)
    end.

stalled(Queue) ->
    receive
        {timeout, Timer, stall} -> py_callback_queue:stalled(Timer, Queue)
    after ?LONG -> error(no_timer)
    end.

no_timer() ->
    receive
        {timeout, _, stall} -> error(timer)
    after 100 -> ok
    end.

%% Results come in frames of kind 7, and acknowledged bytes of callbacks in those of kind 11.
result(Port) ->
    receive
        {Port, {data, <<7, 1, _Id, Result/binary>>}} -> binary_to_term(Result)
    after ?LONG -> error(no_result)
    end.

acknowledged(Port) ->
    receive
        {Port, {data, <<11, 1, 70, Bytes:64>>}} -> Bytes
    after ?LONG -> error(no_ack)
    end.

%% How long the timers of this process were to take. A process cannot trace itself.
trace_timers() ->
    Tracer = spawn_link(fun() -> tracer([]) end),
    1 = erlang:trace_pattern({erlang, start_timer, 3}, true, []),
    1 = erlang:trace(self(), true, [call, {tracer, Tracer}]),
    Tracer.

timers(Tracer) ->
    1 = erlang:trace(self(), false, [call]),
    Delivered = erlang:trace_delivered(self()),
    receive
        {trace_delivered, _, Delivered} -> ok
    end,
    Tracer ! {timers, self()},
    receive
        {Tracer, Timers} -> Timers
    end.

tracer(Timers) ->
    receive
        {trace, _, call, {erlang, start_timer, [Ms, _, stall]}} -> tracer([Ms | Timers]);
        {timers, From} -> From ! {self(), lists:reverse(Timers)}
    end.
