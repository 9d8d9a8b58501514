%% @doc Workers of one's own: state in Python, that ends with its process and with its owner.
-module(py_actor_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([init/1]).
-export([
    accepted_where_a_pool_is/1,
    state_is_kept/1,
    state_is_lost_with_the_process/1,
    it_takes_a_linked_starter_along/1,
    it_ends_with_its_starter/1,
    it_ends_with_its_starter_unlinked/1,
    stopping/1,
    a_worker_that_cannot_start/1,
    what_is_no_option/1,
    under_a_supervisor/1,
    an_actor_under_a_supervisor/1,
    without_the_application/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        accepted_where_a_pool_is,
        state_is_kept,
        state_is_lost_with_the_process,
        it_takes_a_linked_starter_along,
        it_ends_with_its_starter,
        it_ends_with_its_starter_unlinked,
        stopping,
        a_worker_that_cannot_start,
        what_is_no_option,
        under_a_supervisor,
        an_actor_under_a_supervisor,
        without_the_application
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Source = filename:join(?config(data_dir, Config), "counting_actor.erl"),
    {ok, Module, Binary} = compile:file(Source, [binary]),
    {module, Module} = code:load_binary(Module, Source, Binary),
    [{opts, #{python_path => [?config(data_dir, Config)]}} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    _ = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    ?assertEqual({message_queue_len, 0}, process_info(self(), message_queue_len)),
    ok.

%% Its pid is accepted wherever the name of a pool is.
-spec accepted_where_a_pool_is(ct_suite:ct_config()) -> ok.
accepted_where_a_pool_is(Config) ->
    {ok, Worker} = py:start_worker(?config(opts, Config)),
    Opts = #{pool => Worker},
    ok = py:exec("x = 6", Opts),
    ?assertEqual({ok, 42}, py:eval("x * y", #{y => 7}, Opts)),
    ?assertEqual({ok, 1}, py:call(counter, add, [1], #{}, Opts)),
    ?assertEqual({ok, 3}, py:await(py:spawn_call(counter, add, [2], #{}, Opts))),
    ?assertEqual({ok, [4, 5]}, py:stream(counter, totals, [2], #{}, Opts)),
    ?assertEqual({ok, [6]}, py:stream_eval("[x]", #{}, Opts)),
    {ok, Ref} = py:stream_start(counter, totals, [1], Opts),
    ?assertEqual({ok, 6}, py:stream_next(Ref)),
    ?assertEqual(done, py:stream_next(Ref)),
    ok = py:cast(counter, add, [10], #{}, Opts),
    test_eventually:equal({ok, 16}, fun() -> py:call(counter, add, [0], #{}, Opts) end),
    #{pool := Worker, size := 1, workers := [_]} = py:info(Worker),
    ok = py:stop_worker(Worker).

%% Two workers have nothing in common.
-spec state_is_kept(ct_suite:ct_config()) -> ok.
state_is_kept(Config) ->
    {ok, A} = py:start_worker(?config(opts, Config)),
    {ok, B} = py:start_worker(?config(opts, Config)),
    [?assertEqual({ok, N}, py:call(counter, add, [1], #{}, #{pool => A})) || N <- [1, 2, 3]],
    ?assertEqual({ok, 1}, py:call(counter, add, [1], #{}, #{pool => B})),
    [ok = py:stop_worker(Worker) || Worker <- [A, B]],
    ok.

%% It is not restarted by anybody: whoever monitors it learns how its Python process ended.
-spec state_is_lost_with_the_process(ct_suite:ct_config()) -> ok.
state_is_lost_with_the_process(Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(?config(opts, Config), monitor),
    Opts = #{pool => Worker},
    ?assertEqual({error, {worker_exit, 9}}, py:call(counter, die, [], #{}, Opts)),
    receive
        {'DOWN', Monitor, process, Worker, Reason} ->
            ?assertEqual({shutdown, {worker_exit, 9}}, Reason)
    end,
    ?assertEqual({error, {no_pool, Worker}}, py:call(counter, add, [1], #{}, Opts)),
    ?assertEqual({error, {no_pool, Worker}}, py:stream_start(counter, totals, [1], Opts)),
    ?assertEqual({error, {no_pool, Worker}}, py:exec("1", Opts)),
    ?assertEqual({error, {no_pool, Worker}}, py:info(Worker)).

%% A starter that is linked ends with it, for the same reason.
-spec it_takes_a_linked_starter_along(ct_suite:ct_config()) -> ok.
it_takes_a_linked_starter_along(Config) ->
    {Starter, Monitor} = spawn_monitor(fun() ->
        {ok, Worker} = py:start_worker(?config(opts, Config)),
        py:call(counter, die, [], #{}, #{pool => Worker}),
        receive
            never -> ok
        end
    end),
    receive
        {'DOWN', Monitor, process, Starter, Reason} ->
            ?assertEqual({shutdown, {worker_exit, 9}}, Reason)
    end.

%% When its starter ends, however it does, the Python process ends.
-spec it_ends_with_its_starter(ct_suite:ct_config()) -> ok.
it_ends_with_its_starter(Config) ->
    [ends_with(fun(Opts) -> py:start_worker(Opts) end, Exit, Config) || Exit <- [normal, kill, oops]],
    ok.

%% The same where the starter is not linked to it.
-spec it_ends_with_its_starter_unlinked(ct_suite:ct_config()) -> ok.
it_ends_with_its_starter_unlinked(Config) ->
    Start = fun(Opts) ->
        {ok, {Worker, _Monitor}} = py:start_worker(Opts, monitor),
        {ok, Worker}
    end,
    [ends_with(Start, Exit, Config) || Exit <- [normal, kill, oops]],
    ok.

ends_with(Start, Exit, Config) ->
    Self = self(),
    Starter = spawn(fun() ->
        {ok, Worker} = Start(?config(opts, Config)),
        {ok, OsPid} = py:call(counter, pid, [], #{}, #{pool => Worker}),
        Self ! {self(), Worker, OsPid},
        receive
            normal -> ok
        end
    end),
    {Worker, OsPid} =
        receive
            {Starter, Its, Number} -> {Its, Number}
        end,
    Monitor = monitor(process, Worker),
    case Exit of
        normal -> Starter ! normal;
        _ -> exit(Starter, Exit)
    end,
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    end,
    test_eventually:equal("", fun() -> os:cmd("ps -o stat= -p " ++ integer_to_list(OsPid)) end).

%% Stopping it ends no process that is linked to it; what runs there gets a reason.
-spec stopping(ct_suite:ct_config()) -> ok.
stopping(Config) ->
    {ok, Worker} = py:start_worker(?config(opts, Config)),
    Opts = #{pool => Worker},
    {ok, Ref} = py:stream_start(builtins, iter, [[1]], Opts#{demand => 0}),
    Call = py:spawn_call(asyncio, sleep, [60], #{}, Opts),
    test_eventually:true(fun() ->
        #{workers := [#{tasks := Tasks}]} = py:info(Worker),
        Tasks =:= 1
    end),
    ok = py:stop_worker(Worker),
    ?assertEqual({error, {worker_exit, stopped}}, py:await(Call)),
    ?assertEqual({error, {worker_exit, stopped}}, py:stream_next(Ref)),
    ok = py:stop_worker(Worker).

%% A worker that cannot start says why.
-spec a_worker_that_cannot_start(ct_suite:ct_config()) -> ok.
a_worker_that_cannot_start(_Config) ->
    No = #{python => "/no/such/python"},
    ?assertMatch({error, {python_not_found, _}}, py:start_worker(No, monitor)),
    %% Whoever traps exits goes on; since OTP 26 it has not even the exit in its mailbox.
    {Starter, Monitor} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        exit(py:start_worker(No))
    end),
    receive
        {'DOWN', Monitor, process, Starter, Result} ->
            ?assertMatch({error, {python_not_found, _}}, Result)
    end,
    ?assertMatch({error, {cannot_start, _}}, py:start_worker(#{preload => ["1/0"]}, monitor)).

%% Its options are those of a pool, but for the number of workers.
-spec what_is_no_option(ct_suite:ct_config()) -> ok.
what_is_no_option(_Config) ->
    ?assertError({badopt, {workers, 2}}, py:start_worker(#{workers => 2})),
    ?assertError({badopt, {colour, red}}, py:start_worker(#{colour => red})),
    ?assertError({badopt, {start, later}}, py:start_worker(#{}, later)).

%% As a supervisor's child it is restarted, with a new pid and no memory.
-spec under_a_supervisor(ct_suite:ct_config()) -> ok.
under_a_supervisor(Config) ->
    Spec = py:child_spec(counter, ?config(opts, Config)),
    ok = supervisor:check_childspecs([Spec, py:child_spec(#{})]),
    {ok, Sup} = start_supervisor([Spec]),
    Child = fun() ->
        [{counter, Pid, worker, _}] = supervisor:which_children(Sup),
        Pid
    end,
    First = Child(),
    ?assertEqual({ok, 5}, py:call(counter, add, [5], #{}, #{pool => First})),
    {error, {worker_exit, 9}} = py:call(counter, die, [], #{}, #{pool => First}),
    test_eventually:true(fun() -> is_pid(Child()) andalso Child() =/= First end),
    ?assertEqual({ok, 1}, py:call(counter, add, [1], #{}, #{pool => Child()})),
    Last = Child(),
    stop_supervisor(Sup),
    ?assertEqual({error, {no_pool, Last}}, py:call(counter, add, [1], #{}, #{pool => Last})).

%% A gen_server that starts its worker in init/1 is restarted together with it.
-spec an_actor_under_a_supervisor(ct_suite:ct_config()) -> ok.
an_actor_under_a_supervisor(Config) ->
    Opts = ?config(opts, Config),
    {ok, Sup} = start_supervisor([
        #{id => actor, start => {counting_actor, start_link, [Opts]}}
    ]),
    ?assertEqual({ok, 2}, counting_actor:add(2)),
    ?assertEqual({ok, 4}, counting_actor:add(2)),
    First = whereis(counting_actor),
    Worker = sys:get_state(counting_actor),
    _ = py:call(counter, die, [], #{}, #{pool => Worker}),
    test_eventually:true(fun() ->
        Now = whereis(counting_actor),
        is_pid(Now) andalso Now =/= First
    end),
    ?assertEqual({ok, 1}, counting_actor:add(1)),
    stop_supervisor(Sup).

%% Not linked: the test goes on when it is stopped.
start_supervisor(Specs) ->
    {ok, Sup} = supervisor:start_link(?MODULE, Specs),
    true = unlink(Sup),
    {ok, Sup}.

%% @doc A supervisor of the children that a case names.
-spec init([supervisor:child_spec()]) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Specs) ->
    {ok, {#{strategy => one_for_one}, Specs}}.

stop_supervisor(Sup) ->
    Monitor = monitor(process, Sup),
    exit(Sup, shutdown),
    receive
        {'DOWN', Monitor, process, Sup, _} -> ok
    end.

%% Without the application there is a reason, and no crash.
-spec without_the_application(ct_suite:ct_config()) -> ok.
without_the_application(Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(?config(opts, Config), monitor),
    Call = py:spawn_call(asyncio, sleep, [60], #{}, #{pool => Worker}),
    ok = py:stop_worker(Worker),
    ok = application:stop(erlang_python),
    ?assertEqual({error, {worker_exit, stopped}}, py:await(Call)),
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    end,
    Refused = py:spawn_call(math, sqrt, [4]),
    ?assertEqual({error, {no_pool, default}}, py:await(Refused)),
    ?assertEqual({error, timeout}, py:await(Refused, 0)),
    ok = py:cast(math, sqrt, [4]),
    ?assertEqual({error, {not_started, erlang_python}}, py:start_worker(#{})),
    ?assertEqual({error, {not_started, erlang_python}}, py:start_worker(#{}, monitor)).
