%% @doc What requests of one worker see of each other: nothing. Neither in their contexts
%% (contextvars) nor by what they do to the event loop that they share.
-module(py_context_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([
    a_request_begins_with_what_was_preloaded/1,
    a_sync_stream_keeps_its_context/1,
    an_async_stream_keeps_its_context/1,
    a_coroutine_belongs_to_its_call/1,
    code_has_a_context_of_its_own/1,
    a_stopped_loop_goes_on/1,
    tasks_of_others_are_not_cancelled/1,
    a_loop_that_is_gone_is_the_end_of_its_worker/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        a_request_begins_with_what_was_preloaded,
        a_sync_stream_keeps_its_context,
        an_async_stream_keeps_its_context,
        a_coroutine_belongs_to_its_call,
        code_has_a_context_of_its_own,
        a_stopped_loop_goes_on,
        tasks_of_others_are_not_cancelled,
        a_loop_that_is_gone_is_the_end_of_its_worker
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{
        workers => 1,
        python_path => [?config(data_dir, Config)],
        preload => [contexts],
        interrupt_after => 50
    },
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-define(PRELOADED, [<<"nobody">>, 3, <<"0.333333333">>]).

%%% Contexts.

%% What calls, streams and code set is gone with them, whatever their sort.
-spec a_request_begins_with_what_was_preloaded(ct_suite:ct_config()) -> ok.
a_request_begins_with_what_was_preloaded(_Config) ->
    nothing_is_seen(),
    Seen = [<<"alice">>, 4, <<"0.33333333">>],
    [?assertEqual({ok, Seen}, py:call(contexts, login, [<<"alice">>])) || _ <- lists:seq(1, 10)],
    nothing_is_seen(),
    [?assertEqual({ok, Seen}, py:call(contexts, login_async, [<<"alice">>])) || _ <- lists:seq(1, 10)],
    nothing_is_seen(),
    {ok, [_ | _]} = py:stream(contexts, login_stream, [<<"alice">>, 10]),
    {ok, [_ | _]} = py:stream(contexts, login_stream_async, [<<"alice">>, 10]),
    ?assertEqual({ok, Seen}, py:eval("__import__('contexts').login('alice')")),
    nothing_is_seen().

nothing_is_seen() ->
    Several = lists:seq(1, 10),
    [?assertEqual({ok, ?PRELOADED}, py:call(contexts, seen, [])) || _ <- Several],
    [?assertEqual({ok, ?PRELOADED}, py:call(contexts, seen_async, [])) || _ <- Several],
    [?assertEqual({ok, [?PRELOADED]}, py:stream(contexts, seen_stream, [])) || _ <- Several],
    [?assertEqual({ok, [?PRELOADED]}, py:stream(contexts, seen_stream_async, [])) || _ <- Several],
    ?assertEqual({ok, ?PRELOADED}, py:eval("__import__('contexts').seen()")),
    ok.

%% Over all its steps, in runs and one by one, while it is encoded, and when it is closed.
-spec a_sync_stream_keeps_its_context(ct_suite:ct_config()) -> ok.
a_sync_stream_keeps_its_context(_Config) ->
    Name = <<"carol">>,
    Values = [Name, [Name || _ <- lists:seq(1, 500)], <<"carol!">>, <<"carol!">>],
    [
        ?assertEqual(
            {ok, lists:flatten(Values)},
            py:stream(contexts, login_stream, [Name, 500], #{}, #{window => Window})
        )
     || Window <- [1, 7, 1024]
    ],
    ?assertEqual({ok, <<"carol!">>}, py:call(contexts, closed_by, [])),
    ?assertEqual({ok, [Name, Name]}, py:stream(contexts, iterable_of, [Name])).

-spec an_async_stream_keeps_its_context(ct_suite:ct_config()) -> ok.
an_async_stream_keeps_its_context(_Config) ->
    Name = <<"dave">>,
    Others = [
        py:spawn_call(contexts, login_async, [integer_to_binary(I)])
     || I <- lists:seq(1, 100)
    ],
    ?assertEqual(
        {ok, [Name || _ <- lists:seq(1, 101)]},
        py:stream(contexts, login_stream_async, [Name, 100])
    ),
    [{ok, [_, 4, _]} = py:await(Ref) || Ref <- Others],
    ok.

%% What the function sets before it returns a coroutine is there when that is awaited.
-spec a_coroutine_belongs_to_its_call(ct_suite:ct_config()) -> ok.
a_coroutine_belongs_to_its_call(_Config) ->
    ?assertEqual(
        {ok, [<<"erin">>, 3, <<"0.333333333">>]}, py:call(contexts, made_in_the_call, [<<"erin">>])
    ),
    ?assertEqual({ok, ?PRELOADED}, py:call(contexts, seen, [])).

-spec code_has_a_context_of_its_own(ct_suite:ct_config()) -> ok.
code_has_a_context_of_its_own(_Config) ->
    ok = py:exec("import contexts\ncontexts.login('frank')\nassert contexts.user.get() == 'frank'"),
    ok = py:exec("assert contexts.user.get() == 'nobody', contexts.user.get()"),
    nothing_is_seen().

%%% The event loop.

%% A library that takes the loop for its own stops it, or closes it, or both.
-spec a_stopped_loop_goes_on(ct_suite:ct_config()) -> ok.
a_stopped_loop_goes_on(_Config) ->
    {ok, Ref} = py:stream_start(contexts, ticks, []),
    {ok, 0} = py:stream_next(Ref, 5000),
    ?assertEqual({ok, none}, py:call(contexts, stop, [])),
    ?assertMatch({error, {'RuntimeError', _}}, py:call(contexts, close, [])),
    ?assertEqual({ok, none}, py:call(contexts, shut_down, [])),
    ?assertEqual({ok, 7}, py:call(contexts, echo, [7], #{}, 5000)),
    [?assertEqual({ok, N}, py:stream_next(Ref, 5000)) || N <- lists:seq(1, 2000)],
    ok = py:stream_cancel(Ref),
    ?assertMatch(#{restarts := 0}, py:info(default)),
    ok.

%% One that cancels all tasks ends itself.
-spec tasks_of_others_are_not_cancelled(ct_suite:ct_config()) -> ok.
tasks_of_others_are_not_cancelled(_Config) ->
    {ok, Ref} = py:stream_start(contexts, ticks, []),
    {ok, 0} = py:stream_next(Ref, 5000),
    Other = py:spawn_call(asyncio, sleep, [0.3, here]),
    ?assertMatch({error, {'CancelledError', _}}, py:call(contexts, cancel_all, [])),
    ?assertEqual({ok, here}, py:await(Other)),
    [?assertEqual({ok, N}, py:stream_next(Ref, 5000)) || N <- lists:seq(1, 2000)],
    ok = py:stream_cancel(Ref).

%% Where the loop cannot go on, what runs on it is not left without an answer.
-spec a_loop_that_is_gone_is_the_end_of_its_worker(ct_suite:ct_config()) -> ok.
a_loop_that_is_gone_is_the_end_of_its_worker(_Config) ->
    ?assertMatch({error, {worker_exit, _}}, py:call(contexts, loop_is_lost, [])),
    test_eventually:equal({ok, 7}, fun() -> py:call(contexts, echo, [7], #{}, 5000) end),
    ?assertMatch(#{restarts := 1}, py:info(default)),
    ok.
