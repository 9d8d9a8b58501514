%% @doc A port program that sends nonsense harms itself: it is replaced, the reason is logged
%% once, and each stream and call that it had has exactly one answer.
%%
%% HOSTILE_ROUNDS in the environment says how many rounds of changed frames there are, and
%% HOSTILE_SEED which is the first.
-module(py_hostile_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    frames_that_make_no_sense/1,
    answers_twice/1,
    frames_for_nobody/1,
    part_of_a_frame_and_the_end/1,
    part_of_a_frame_and_silence/1,
    closed_input/1,
    nonsense_before_it_is_ready/1,
    silence_before_it_is_ready/1,
    changed_bytes/1,
    atoms_of_restarted_workers/1
]).
%% Called in another node.
-export([make_atoms/1]).
%% Called by logger.
-export([log/2]).

-define(LONG, 10000).
-define(ROUNDS, "40").
-define(SEED, "20260").

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {seconds, 60 + rounds()}}].

-spec all() -> [atom()].
all() ->
    [
        frames_that_make_no_sense,
        answers_twice,
        frames_for_nobody,
        part_of_a_frame_and_the_end,
        part_of_a_frame_and_silence,
        closed_input,
        nonsense_before_it_is_ready,
        silence_before_it_is_ready,
        changed_bytes,
        atoms_of_restarted_workers
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{healthy => #{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% A stream of another pool runs all the while.
-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    Self = self(),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => warning, config => #{to => Self}}),
    [{neighbour, spawn_link(fun neighbour/0)}, {worker, test_workers:ready(healthy)} | Config].

%% It had all of its values, in order, and its pool's worker is the one that it was.
-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, Config) ->
    ok = logger:remove_handler(?MODULE),
    _ = py:stop_pool(hostile),
    try
        Neighbour = ?config(neighbour, Config),
        Neighbour ! {stop, self()},
        receive
            {Neighbour, Count} -> ?assert(Count > 0)
        after ?LONG -> error(neighbour)
        end,
        ?assertEqual(?config(worker, Config), test_workers:ready(healthy)),
        test_workers:idle(healthy)
    catch
        error:Reason -> {fail, Reason}
    end.

neighbour() ->
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => healthy, window => 10}),
    neighbour(Ref, 0).

neighbour(Ref, N) ->
    receive
        {py_stream, Ref, {data, N}} ->
            neighbour(Ref, N + 1);
        {stop, From} when N > 0 ->
            ok = py:stream_cancel(Ref),
            From ! {self(), N}
    end.

%%% Cases.

%% What no worker of this project would send ends the worker that sent it.
-spec frames_that_make_no_sense(ct_suite:ct_config()) -> ok.
frames_that_make_no_sense(Config) ->
    %% An address can only hold names that the node knows.
    _ = 'other@nodes',
    Scenarios = [
        unknown_kind,
        kind_of_the_other_direction,
        empty_frame,
        address_cut,
        address_that_is_no_term,
        address_that_is_an_atom,
        address_of_another_node,
        event_to_a_call,
        reply_to_a_stream,
        payload_that_is_no_term,
        payload_cut,
        payload_of_another_stream,
        unknown_event,
        batch_that_is_no_list,
        batch_that_is_improper,
        batch_of_nothing,
        last_with_a_value,
        promise_of_a_huge_value,
        reply_that_is_no_term,
        reply_that_is_no_result,
        ready_twice,
        send_that_is_no_term,
        send_that_is_no_list,
        send_of_no_pairs,
        send_that_is_improper,
        send_that_is_compressed,
        send_of_no_float,
        request_that_is_no_term,
        request_of_nothing_known,
        log_that_is_no_term,
        log_of_no_records,
        log_of_wrong_records
    ],
    [replaced(Scenario, bad_frame, Config) || Scenario <- Scenarios],
    replaced(failed_late, {failed, <<"why">>}, Config),
    Atoms = erlang:system_info(atom_count),
    replaced(send_of_new_atoms, atom_limit, Config),
    ?assert(erlang:system_info(atom_count) - Atoms < 1000).

%% An answer too many ends the worker; those that were asked for have arrived.
-spec answers_twice(ct_suite:ct_config()) -> ok.
answers_twice(Config) ->
    lists:foreach(
        fun(Scenario) ->
            {Old, Events, Result} = run(Scenario, #{}, Config),
            ?assertEqual({Scenario, [{data, 7}, done], {ok, 7}}, {Scenario, Events, Result}),
            other_worker(Old),
            replaced_once(Scenario, bad_frame)
        end,
        [last_twice, reply_twice]
    ).

%% What is for nobody reaches nobody, and is no reason to end anything.
-spec frames_for_nobody(ct_suite:ct_config()) -> ok.
frames_for_nobody(Config) ->
    lists:foreach(
        fun(Scenario) ->
            {Old, Events, Result} = run(Scenario, #{}, Config),
            ?assertEqual({Scenario, [{data, 7}, done], {ok, 7}}, {Scenario, Events, Result}),
            test_eventually:equal({0, 0}, fun() -> test_workers:load(hostile) end),
            ?assertEqual({Scenario, Old}, {Scenario, test_workers:ready(hostile)}),
            ?assertEqual({Scenario, []}, {Scenario, logged()})
        end,
        [nothing, event_of_no_stream, event_after_the_end, pong_that_nobody_asked_for]
    ).

%% A worker that ends within a frame has ended, and no more: what it wanted to say is lost.
-spec part_of_a_frame_and_the_end(ct_suite:ct_config()) -> ok.
part_of_a_frame_and_the_end(Config) ->
    lists:foreach(
        fun(Scenario) ->
            {Old, Events, Result} = run(Scenario, #{}, Config),
            Error = {error, {worker_exit, 3}},
            ?assertEqual({Scenario, [{data, 7}, Error], Error}, {Scenario, Events, Result}),
            other_worker(Old),
            ?assertEqual({Scenario, [restarted(3)]}, {Scenario, logged()})
        end,
        [half_a_frame_and_exit, half_a_length_and_exit, two_gib_and_exit]
    ).

%% One that falls silent within a frame is replaced when it has been deaf for too long.
-spec part_of_a_frame_and_silence(ct_suite:ct_config()) -> ok.
part_of_a_frame_and_silence(Config) ->
    ok = application:set_env(erlang_python, liveness_ms, 100),
    try
        [
            replaced(Scenario, unresponsive, #{deaf_after => 500}, Config)
         || Scenario <- [half_a_frame_and_silence, two_gib_and_silence]
        ]
    after
        application:unset_env(erlang_python, liveness_ms)
    end.

%% Writing to a worker that has closed its input closes the port, and no message
%% with its exit status comes. The same befalls a request that is written just when its worker dies.
-spec closed_input(ct_suite:ct_config()) -> ok.
closed_input(Config) ->
    ok = application:set_env(erlang_python, liveness_ms, 100),
    try
        {Old, Events, Result} = run(closed_input_and_silence, #{}, Config),
        Error = {error, {worker_exit, exit_unknown}},
        ?assertEqual({[{data, 7}, Error], Error}, {Events, Result}),
        other_worker(Old),
        ?assertEqual([restarted(exit_unknown)], logged())
    after
        application:unset_env(erlang_python, liveness_ms)
    end.

%% A pool whose program breaks the protocol from the start does not start, and says why.
-spec nonsense_before_it_is_ready(ct_suite:ct_config()) -> ok.
nonsense_before_it_is_ready(Config) ->
    lists:foreach(
        fun(Scenario) ->
            {Scenario, {error, {cannot_start, Why}}} = {Scenario, start(Scenario, #{}, Config)},
            ?assert(is_binary(Why)),
            ?assertEqual({Scenario, []}, {Scenario, logged()})
        end,
        [
            exit_at_once,
            text_instead,
            event_before_ready,
            pong_before_ready,
            ready_without_a_map,
            ready_that_is_no_term
        ]
    ).

%% One that says nothing is given up after `start_timeout'.
-spec silence_before_it_is_ready(ct_suite:ct_config()) -> ok.
silence_before_it_is_ready(Config) ->
    [
        ?assertEqual({error, {start_timeout, 300}}, start(Scenario, #{start_timeout => 300}, Config))
     || Scenario <- [silence_before_ready, half_a_frame_before_ready]
    ],
    ok.

%% Whatever bytes are changed in good frames: the node lives, the stream and the call have one
%% end each, the reason is logged once, and a worker without any load is there for the next.
-spec changed_bytes(ct_suite:ct_config()) -> ok.
changed_bytes(Config) ->
    First = list_to_integer(os:getenv("HOSTILE_SEED", ?SEED)),
    Seeds = lists:seq(First, First + rounds() - 1),
    ct:pal("seeds ~b to ~b, up to three frames each", [First, lists:last(Seeds)]),
    Replaced = [Seed || Seed <- Seeds, changed(Seed, Config)],
    ct:pal("~b of ~b workers were replaced", [length(Replaced), length(Seeds)]),
    ?assert(length(Replaced) > 0).

%% Whether the worker was replaced.
changed(Seed, Config) ->
    {Old, Events, _} = run({fuzz, Seed}, #{}, Config),
    ?assertMatch({_, [_ | _]}, {Seed, Events}),
    other_worker(Old),
    %% The VM itself says what it did with an address of another incarnation of the node.
    Logged = [Said || Said = {Text, _} <- logged(), Text =/= "something else"],
    %% Where nothing was wrong enough, it has ended by itself.
    case Logged =:= [restarted(7)] of
        true ->
            false;
        false ->
            ?assertMatch({_, [{_, _} | _]}, {Seed, Logged}),
            replaced_once(Seed, element(2, hd(Logged)), Logged),
            true
    end.

rounds() ->
    list_to_integer(os:getenv("HOSTILE_ROUNDS", ?ROUNDS)).

%%% Helpers.

replaced(Scenario, Reason, Config) ->
    replaced(Scenario, Reason, #{}, Config).

replaced(Scenario, Reason, Opts, Config) ->
    {Old, Events, Result} = run(Scenario, Opts, Config),
    Error = {error, {worker_exit, Reason}},
    ?assertEqual({Scenario, [{data, 7}, Error], Error}, {Scenario, Events, Result}),
    other_worker(Old),
    replaced_once(Scenario, Reason).

other_worker(Old) ->
    test_eventually:true(fun() ->
        Now = test_workers:ready(hostile),
        length(Now) =:= 1 andalso Now =/= Old
    end),
    ?assertEqual({0, 0}, test_workers:load(hostile)).

replaced_once(Scenario, Reason) ->
    replaced_once(Scenario, Reason, logged()).

replaced_once(Scenario, Reason, Logged) ->
    Expected = [{"a Python worker is replaced", Reason}, restarted(Reason)],
    ?assertEqual({Scenario, Expected}, {Scenario, Logged}).

restarted(Status) ->
    {"a Python worker ended and is restarted", Status}.

%% Names that Python code makes of data fill no table, however often its worker is replaced.
-spec atoms_of_restarted_workers(ct_suite:ct_config()) -> ok.
atoms_of_restarted_workers(_Config) ->
    Ebins = [filename:dirname(code:which(Module)) || Module <- [py, ?MODULE]],
    Args = ["+t", "40000" | lists:append([["-pa", Ebin] || Ebin <- Ebins])],
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => Args, wait_boot => ?LONG}),
    try
        {Results, Made} = peer:call(Peer, ?MODULE, make_atoms, [os:getenv("ERLANG_PYTHON", "python3")], 3 * ?LONG),
        %% A tenth of the table.
        ?assertEqual([ok, ok, ok, ok, {error, atom_limit}, {error, atom_limit}], Results),
        ?assert(Made < 5000)
    after
        peer:stop(Peer)
    end.

%% The same as {@link atoms_of_restarted_workers/1}, in the node whose table is small.
-spec make_atoms(string()) -> {[ok | {error, term()}], non_neg_integer()}.
make_atoms(Python) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1, python => Python}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = logger:set_primary_config(level, none),
    ok = py:exec(
        "import erlang, uuid\n"
        "def keys():\n"
        "    yield [erlang.Atom(uuid.uuid4().hex) for _ in range(900)]\n"
    ),
    Before = erlang:system_info(atom_count),
    Results = [
        begin
            ok = await_worker(),
            {ok, Ref} = py:stream_start('__main__', keys, []),
            Result =
                case py:stream_next(Ref, ?LONG) of
                    {ok, Keys} when length(Keys) =:= 900 ->
                        done = py:stream_next(Ref, ?LONG),
                        ok;
                    Error ->
                        %% A call says the same, and the worker lives.
                        Error = py:eval("next(keys())"),
                        Error
                end,
            {error, {worker_exit, 7}} = py:call(os, '_exit', [7]),
            Result
        end
     || _ <- lists:seq(1, 6)
    ],
    {Results, erlang:system_info(atom_count) - Before}.

await_worker() ->
    case py:eval("1") of
        {ok, 1} ->
            ok;
        {error, _} ->
            receive
            after 20 -> await_worker()
            end
    end.

%% Starts a pool of one such worker, a stream and a call, and gives all that they get.
run(Scenario, Opts, Config) ->
    _ = py:stop_pool(hostile),
    {ok, _} = start(Scenario, Opts, Config),
    Old = test_workers:ready(hostile),
    {ok, Ref} = py:stream_start(m, f, [], #{pool => hostile}),
    [First] = events(Ref, 1),
    Result = py:call(m, f, [], #{}, #{pool => hostile, timeout => ?LONG}),
    Events = [First | events(Ref, infinity)],
    receive
        {py_stream, Ref, More} -> error({after_the_end, More})
    after 0 -> ok
    end,
    {Old, Events, Result}.

start(Scenario, Opts, Config) ->
    py:start_pool(hostile, Opts#{workers => 1, python => program(Scenario, Config)}).

program({fuzz, Seed}, Config) -> program("fuzz:" ++ integer_to_list(Seed), Config);
program(Scenario, Config) when is_atom(Scenario) -> program(atom_to_list(Scenario), Config);
program(Scenario, Config) ->
    Python = os:find_executable(os:getenv("ERLANG_PYTHON", "python3")),
    Fake = filename:join(?config(data_dir, Config), "fake.py"),
    File = filename:join(?config(priv_dir, Config), Scenario),
    Line = io_lib:format("exec '~ts' -I -S '~ts' '~ts' \"$@\"", [Python, Fake, Scenario]),
    ok = file:write_file(File, ["#!/bin/sh\n", Line, "\n"]),
    ok = file:change_mode(File, 8#755),
    File.

events(_Ref, 0) ->
    [];
events(Ref, N) ->
    receive
        {py_stream, Ref, Last} when Last =:= done; element(1, Last) =:= error -> [Last];
        {py_stream, Ref, Event} when N =:= infinity -> [Event | events(Ref, N)];
        {py_stream, Ref, Event} -> [Event | events(Ref, N - 1)]
    after ?LONG -> error({no_event, Ref})
    end.

%% @doc Hands on what the node logs.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {report, #{text := Text} = Report}}, #{config := #{to := To}}) ->
    Why = maps:get(reason, Report, maps:get(status, Report, none)),
    To ! {logged, {Text, Why}},
    ok;
log(#{msg := Other}, #{config := #{to := To}}) ->
    To ! {logged, {"something else", Other}},
    ok.

logged() ->
    receive
        {logged, What} -> [What | logged()]
    after 0 -> []
    end.
