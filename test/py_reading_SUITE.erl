%% @doc A stream at full speed reads for itself; nobody else may wait for that.
-module(py_reading_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [take/2]).

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    call_beside_a_generator_that_waits/1,
    cancel_of_a_generator_that_waits/1,
    call_beside_an_owner_that_sleeps/1,
    calls_beside_streams_at_full_speed/1
]).

-define(POOL, ?MODULE).

all() ->
    [
        call_beside_a_generator_that_waits,
        cancel_of_a_generator_that_waits,
        call_beside_an_owner_that_sleeps,
        calls_beside_streams_at_full_speed
    ].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, _} = py:start_pool(?POOL, #{workers => 1}),
    ok = py:exec(
        <<"import itertools, threading\n"
        "gate = threading.Event()\n"
        "closed = []\n"
        "def burst(n):\n"
        "    try:\n"
        "        yield from range(n)\n"
        "        gate.wait()\n"
        "        yield 'opened'\n"
        "    finally:\n"
        "        closed.append(n)\n"
        "async def async_burst(n):\n"
        "    try:\n"
        "        for i in range(n):\n"
        "            yield i\n"
        "        while not gate.is_set():\n"
        "            await asyncio.sleep(0.001)\n"
        "        yield 'opened'\n"
        "    finally:\n"
        "        closed.append(n)\n"
        "async def holding_burst(n):\n"
        "    for i in range(n):\n"
        "        yield i\n"
        "    await asyncio.sleep(0)\n"
        "    gate.wait()\n"
        "    yield 'opened'\n"
        "async def endless():\n"
        "    for i in itertools.count():\n"
        "        yield i\n">>,
        #{pool => ?POOL}
    ),
    Config.

end_per_suite(_Config) ->
    ok = py:stop_pool(?POOL),
    application:stop(erlang_python).

%% A call on the one worker is answered while a generator waits after a burst,
%% whatever part of its window the burst has used.
call_beside_a_generator_that_waits(_Config) ->
    [
        begin
            {ok, Ref} = start('__main__', Burst, [5000], #{window => Window}),
            ok = take(5000, Ref),
            %% The generator waits for this very call. The last one holds the event loop meanwhile, and so what
            %% does not fit its window.
            {ok, _} = call('__main__', 'gate.set', []),
            ?assertEqual({ok, <<"opened">>}, py:stream_next(Ref, 5000)),
            ?assertEqual(done, py:stream_next(Ref, 5000)),
            {ok, _} = call('__main__', 'gate.clear', [])
        end
     || {Burst, Windows} <- [
            {burst, [1, 2, 3, 250, 1024, 5000, 5001]},
            {async_burst, [1, 2, 3, 250, 1024, 5000, 5001]},
            {holding_burst, [5000, 5001]}
        ],
        Window <- Windows
    ].

%% A cancel reaches the worker while a generator waits after a burst; the
%% generator is closed once it yields.
cancel_of_a_generator_that_waits(_Config) ->
    [
        begin
            {ok, _} = call('__main__', 'closed.clear', []),
            {ok, Ref} = start('__main__', Burst, [5000], #{}),
            ok = take(5000, Ref),
            ok = py:stream_cancel(Ref, [flush]),
            {ok, _} = call('__main__', 'gate.set', []),
            test_eventually:true(fun() -> eval(<<"closed">>) =:= {ok, [5000]} end),
            {ok, _} = call('__main__', 'gate.clear', [])
        end
     || Burst <- [burst, async_burst]
    ].

%% A call is answered while an owner that sleeps holds a stream back.
call_beside_an_owner_that_sleeps(_Config) ->
    [
        begin
            {ok, Ref} = start(M, F, [], #{}),
            [?assertEqual({ok, 2.0}, call(math, sqrt, [4])) || _ <- lists:seq(1, 50)],
            ok = py:stream_cancel(Ref, [flush])
        end
     || {M, F} <- [{itertools, count}, {'__main__', endless}]
    ].

%% Calls and short streams are answered beside streams at full speed.
calls_beside_streams_at_full_speed(_Config) ->
    Self = self(),
    Owners = [
        spawn_link(fun() ->
            {ok, Ref} = start(M, F, [], #{}),
            Self ! {started, self()},
            drain(Ref)
        end)
     || {M, F} <- [{itertools, count}, {'__main__', endless}], _ <- lists:seq(1, 3)
    ],
    [
        receive
            {started, Owner} -> ok
        end
     || Owner <- Owners
    ],
    [
        begin
            ?assertEqual({ok, 2.0}, call(math, sqrt, [4])),
            ?assertEqual({ok, [0, 1, 2]}, py:stream(builtins, range, [3], #{}, #{pool => ?POOL}))
        end
     || _ <- lists:seq(1, 20)
    ],
    [
        begin
            unlink(Owner),
            exit(Owner, kill)
        end
     || Owner <- Owners
    ],
    test_eventually:true(fun() ->
        #{workers := [#{streams := Streams}]} = py:info(?POOL),
        Streams =:= 0
    end).

start(M, F, Args, Opts) ->
    py:stream_start(M, F, Args, Opts#{pool => ?POOL}).

call(M, F, Args) ->
    py:call(M, F, Args, #{}, #{pool => ?POOL, timeout => 5000}).

eval(Code) ->
    py:eval(Code, #{}, #{pool => ?POOL}).

drain(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> drain(Ref)
    end.
