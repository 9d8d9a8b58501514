%% @doc Streams over functions that take a callback: `erlang.from_callback' and its async
%% twin, in a worker. What they do elsewhere is in test/python/test_callbacks.py.
-module(py_bridge_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([
    the_function_waits_for_the_owner/1,
    a_wait_for_a_value_can_be_cancelled/1,
    an_owner_that_ends_is_seen/1,
    an_error_comes_through/1,
    the_function_knows_its_stream/1,
    it_is_fast/1,
    the_sync_one_does_not_hold_up_the_loop/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom() | {group, atom()}].
all() ->
    [{group, sync}, {group, async}, the_sync_one_does_not_hold_up_the_loop].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        the_function_waits_for_the_owner,
        a_wait_for_a_value_can_be_cancelled,
        an_owner_that_ends_is_seen,
        an_error_comes_through,
        the_function_knows_its_stream,
        it_is_fast
    ],
    [{sync, [], Cases}, {async, [], Cases}].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_group(sync | async, ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(Group, Config) ->
    [{twin, Group} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

%% A function that calls back without end goes no further than the windows let it, and its
%% callback returns true when the stream is cancelled.
-spec the_function_waits_for_the_owner(ct_suite:ct_config()) -> ok.
the_function_waits_for_the_owner(Config) ->
    {ok, Ref} = start(count, [self()], #{window => 4}, Config),
    [?assertEqual({ok, N}, py:stream_next(Ref)) || N <- lists:seq(0, 9)],
    ok = py:stream_cancel(Ref, [flush]),
    receive
        {ended, Number, WasCancelled} ->
            ?assert(WasCancelled),
            %% Ten were taken; the window, what is held at a yield, and the eight of the bridge.
            ?assert(Number =< 10 + 4 + 1 + 8 + 1, {got_as_far_as, Number})
    end.

%% The generator is closed although the function never calls back.
-spec a_wait_for_a_value_can_be_cancelled(ct_suite:ct_config()) -> ok.
a_wait_for_a_value_can_be_cancelled(Config) ->
    Test = self(),
    ok = py:register_function(bridge_may_end, fun([]) ->
        Test ! {asks, self()},
        receive go_on -> ok end
    end),
    {ok, Ref} = start(silent, [self()], #{}, Config),
    receive waiting -> ok end,
    Function = receive {asks, Pid} -> Pid end,
    ok = py:stream_cancel(Ref, [flush]),
    receive closed -> ok end,
    Function ! go_on,
    receive {said, NobodyWantsMore} -> ?assert(NobodyWantsMore) end,
    ok = py:unregister_function(bridge_may_end).

%% As by a cancel, the function learns of the end of its owner.
-spec an_owner_that_ends_is_seen(ct_suite:ct_config()) -> ok.
an_owner_that_ends_is_seen(Config) ->
    Test = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        {ok, Ref} = start(count, [Test], #{}, Config),
        {ok, 0} = py:stream_next(Ref)
    end),
    receive {'DOWN', Monitor, process, Owner, Why} -> ?assertEqual(normal, Why) end,
    receive {ended, _, _} -> ok end.

%% What the function raises ends the stream, after the values before it.
-spec an_error_comes_through(ct_suite:ct_config()) -> ok.
an_error_comes_through(Config) ->
    {ok, Ref} = start(fail, [], #{}, Config),
    ?assertEqual({ok, 1}, py:stream_next(Ref)),
    ?assertEqual({error, {'ValueError', <<"no more">>}}, py:stream_next(Ref)).

%% The function runs in a thread of its own, and still for its stream.
-spec the_function_knows_its_stream(ct_suite:ct_config()) -> ok.
the_function_knows_its_stream(Config) ->
    {ok, Ref} = start(stream_of, [], #{}, Config),
    ?assertEqual({ok, {self(), Ref, <<"erlang.from_callback">>}}, py:stream_next(Ref)),
    ?assertEqual(done, py:stream_next(Ref)).

%% All values come, in order, and fast enough for what calls back often.
-spec it_is_fast(ct_suite:ct_config()) -> {comment, string()}.
it_is_fast(Config) ->
    Count = 20000,
    Begin = erlang:monotonic_time(microsecond),
    {ok, Values} = py:stream(bridges, name(many, Config), [Count]),
    Micros = erlang:monotonic_time(microsecond) - Begin,
    ?assertEqual(lists:seq(0, Count - 1), Values),
    {comment, io_lib:format("~b values a second", [Count * 1000000 div Micros])}.

%% On the event loop, which must not wait, the error says what to use.
-spec the_sync_one_does_not_hold_up_the_loop(ct_suite:ct_config()) -> ok.
the_sync_one_does_not_hold_up_the_loop(_Config) ->
    {error, {'RuntimeError', Message}} = py:call(bridges, on_the_loop, []),
    ?assertMatch({match, _}, re:run(Message, "afrom_callback")).

start(Name, Args, Opts, Config) ->
    py:stream_start(bridges, name(Name, Config), Args, Opts).

name(Name, Config) ->
    list_to_atom(lists:concat([?config(twin, Config), "_", Name])).
