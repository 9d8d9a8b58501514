%% @doc Operating pools: under a supervisor of one's own, and what is known of them.
-module(py_operation_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-behaviour(supervisor).

-export([all/0, groups/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    a_pool_of_an_application/1,
    its_manager_is_killed/1,
    its_supervisor_is_killed/1,
    a_pool_that_cannot_start/1,
    a_supervisor_that_is_stopped_while_it_starts/1,
    a_name_that_is_taken/1,
    without_the_application/1,
    no_pool_at_all/1,
    info_of_workers/1,
    info_of_stuck_workers/1,
    info_of_a_hundred_workers/1,
    workers_that_are_listed/1,
    a_table_for_the_shell/1
]).
%% Of the supervisor.
-export([init/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, supervised}, {group, info}].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    [
        {supervised, [], [
            a_pool_of_an_application,
            its_manager_is_killed,
            its_supervisor_is_killed,
            a_pool_that_cannot_start,
            a_supervisor_that_is_stopped_while_it_starts,
            a_name_that_is_taken,
            without_the_application,
            no_pool_at_all
        ]},
        {info, [], [
            info_of_workers,
            info_of_stuck_workers,
            info_of_a_hundred_workers,
            workers_that_are_listed,
            a_table_for_the_shell
        ]}
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    application:load(erlang_python),
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

%%% Under a supervisor of one's own.

%% The pool takes work when its supervisor has started, ends with it, and starts again.
-spec a_pool_of_an_application(ct_suite:ct_config()) -> term().
a_pool_of_an_application(_Config) ->
    Spec = py:pool_spec(mine, [{workers, 2}]),
    ?assertMatch(#{id := mine, type := worker, start := {_, _, _}}, Spec),
    [
        begin
            {ok, Sup} = start([Spec]),
            ?assertMatch([{mine, _, worker, _}], supervisor:which_children(Sup)),
            {ok, Pid} = call(os, getpid),
            ok = exec(<<"x = 1">>),
            ?assertEqual({ok, 1}, eval("x")),
            ok = stop(Sup),
            ?assertNot(filelib:is_file("/proc/" ++ integer_to_list(Pid))),
            ?assertEqual({error, {no_pool, mine}}, eval("x")),
            ?assertEqual(#{}, py:info())
        end
     || _ <- [1, 2]
    ].

%% A manager that is killed is started again by that supervisor, and has run what the one before had.
-spec its_manager_is_killed(ct_suite:ct_config()) -> term().
its_manager_is_killed(_Config) ->
    {ok, Sup} = start([py:pool_spec(mine, #{workers => 1})]),
    ok = exec(<<"x = 1">>),
    [{mine, Manager, _, _}] = supervisor:which_children(Sup),
    exit(Manager, kill),
    test_eventually:true(fun() -> eval("x") =:= {ok, 1} end),
    [{mine, Next, _, _}] = supervisor:which_children(Sup),
    ?assertNotEqual(Manager, Next),
    %% The supervisor of the other pools has no part in it.
    exit(whereis(py_pool_sup), kill),
    test_eventually:true(fun() -> is_pid(whereis(py_pool_sup)) end),
    ?assertEqual({ok, 1}, eval("x")),
    ?assertEqual([], supervisor:which_children(py_pool_sup)),
    ok = stop(Sup).

%% Nothing is left of a pool whose supervisor is killed, and the next one may start it.
-spec its_supervisor_is_killed(ct_suite:ct_config()) -> term().
its_supervisor_is_killed(_Config) ->
    Spec = py:pool_spec(mine, #{workers => 1}),
    {ok, First} = start([Spec]),
    exit(First, kill),
    {ok, Second} = start([Spec]),
    ?assertEqual({ok, 2}, eval("1 + 1")),
    exit(Second, kill),
    test_eventually:true(fun() -> py:info() =:= #{} end).

%% Wrong options raise where they are written; what is missing is an error that names it.
-spec a_pool_that_cannot_start(ct_suite:ct_config()) -> term().
a_pool_that_cannot_start(_Config) ->
    ?assertError({badopt, {wrokers, 2}}, py:pool_spec(mine, #{wrokers => 2})),
    {error, {shutdown, {failed_to_start_child, mine, {cannot_start, Why}}}} =
        start([py:pool_spec(mine, #{python_path => ["/no/such/folder"]})]),
    ?assertMatch({_, _}, binary:match(Why, <<"/no/such/folder">>)),
    ?assertMatch({_, _}, binary:match(Why, <<"python_path">>)),
    {error, {shutdown, {failed_to_start_child, mine, {cannot_start, App}}}} =
        start([py:pool_spec(mine, #{python_path => [{priv, no_such_application, "python"}]})]),
    ?assertMatch({_, _}, binary:match(App, <<"no_such_application">>)),
    ?assertEqual(#{}, py:info()).

%% It does not wait for a worker that never gets ready.
-spec a_supervisor_that_is_stopped_while_it_starts(ct_suite:ct_config()) -> term().
a_supervisor_that_is_stopped_while_it_starts(Config) ->
    Marker = filename:join(?config(priv_dir, Config), "begun"),
    Code = "import time; open('" ++ Marker ++ "', 'w').close(); time.sleep(3600)",
    Spec = py:pool_spec(mine, #{workers => 1, preload => [Code], start_timeout => infinity}),
    Self = self(),
    {Starter, Monitor} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        Self ! {result, start([Spec])}
    end),
    test_eventually:true(fun() -> filelib:is_file(Marker) end),
    [Sup] = [Pid || Pid <- processes(), {dictionary, D} <- [process_info(Pid, dictionary)], [Starter] =:= ancestors(D)],
    exit(Sup, shutdown),
    %% A supervisor hears only of its parent.
    ?assert(is_process_alive(Sup)),
    exit(Starter, kill),
    receive
        {'DOWN', Monitor, process, Starter, _} -> ok
    end,
    test_eventually:true(fun() -> not is_process_alive(Sup) end),
    ?assertEqual(#{}, py:info()).

ancestors(Dictionary) ->
    [hd(Ancestors) || {'$ancestors', Ancestors} <- Dictionary, length(Ancestors) =:= 1].

%% One name is one pool's, whoever starts it.
-spec a_name_that_is_taken(ct_suite:ct_config()) -> term().
a_name_that_is_taken(_Config) ->
    {ok, Sup} = start([py:pool_spec(mine, #{workers => 1})]),
    {error, {already_started, Pid}} = py:start_pool(mine, #{}),
    ?assertMatch([{mine, Pid, _, _}], supervisor:which_children(Sup)),
    {error, {shutdown, {failed_to_start_child, mine, {already_started, Pid}}}} = start([py:pool_spec(mine, #{})]),
    %% It is its supervisor that stops it, and may start it again.
    ok = py:stop_pool(mine),
    ?assertEqual({error, {no_pool, mine}}, py:stop_pool(mine)),
    ?assertMatch([{mine, undefined, _, _}], supervisor:which_children(Sup)),
    {ok, _} = supervisor:restart_child(Sup, mine),
    ?assertEqual({ok, 2}, eval("1 + 1")),
    ok = stop(Sup),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {error, {shutdown, {failed_to_start_child, mine, {already_started, _}}}} = start([py:pool_spec(mine, #{})]),
    ok = py:stop_pool(mine).

-spec without_the_application(ct_suite:ct_config()) -> term().
without_the_application(_Config) ->
    ok = application:stop(erlang_python),
    ?assertEqual(
        {error, {shutdown, {failed_to_start_child, mine, {not_started, erlang_python}}}},
        start([py:pool_spec(mine, #{})])
    ).

%% A configuration without pools starts no Python, and names what is missing.
-spec no_pool_at_all(ct_suite:ct_config()) -> term().
no_pool_at_all(_Config) ->
    ?assertEqual(#{}, py:info()),
    ?assertEqual({error, {no_pool, default}}, py:eval("1")).

%%% What is known of pools.

%% What Python says of itself arrives without being asked for.
-spec info_of_workers(ct_suite:ct_config()) -> term().
info_of_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {ok, OsPid} = call(os, getpid),
    {ok, Version} = call(platform, python_version),
    #{last_exit := none, workers := [#{os_pid := OsPid, python := Version, rss := Rss, age := Age}]} = py:info(mine),
    ?assert(Rss > 1_000_000),
    ?assert(Age >= 0),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    test_eventually:true(fun() ->
        #{workers := [#{streams := Streams, requests := Requests}]} = py:info(mine),
        {Streams, Requests} =:= {1, 1}
    end),
    ok = py:stream_cancel(Ref, [flush]),
    test_eventually:true(fun() ->
        #{workers := [#{streams := Streams, requests := Requests}]} = py:info(mine),
        {Streams, Requests} =:= {0, 0}
    end),
    signal(OsPid, "KILL"),
    test_eventually:true(fun() -> eval("1") =:= {ok, 1} end),
    ?assertMatch(#{last_exit := {worker_exit, {signal, 9}}, restarts := 1}, py:info(mine)).

%% A worker that holds the interpreter lock is not asked, and is seen not to answer.
-spec info_of_stuck_workers(ct_suite:ct_config()) -> term().
info_of_stuck_workers(_Config) ->
    application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    %% Stopped processes answer nothing, and use no processor.
    #{workers := Listed} = py:info(mine),
    OsPids = [OsPid || #{os_pid := OsPid} <- Listed],
    Refs = [py:spawn_call(time, sleep, [0.3], #{}, #{pool => Pid}) || #{pid := Pid} <- Listed],
    [signal(OsPid, "STOP") || OsPid <- OsPids],
    test_eventually:true(fun() ->
        {Micros, #{workers := Workers}} = timer:tc(py, info, [mine]),
        ?assert(Micros < 100_000),
        [timeout || #{error := timeout} <- Workers] =:= [timeout, timeout]
    end),
    ?assertMatch({_, _}, binary:match(iolist_to_binary(py_info_format:format(py:info())), <<"does not answer">>)),
    [signal(OsPid, "CONT") || OsPid <- OsPids],
    [{ok, none} = py:await(Ref) || Ref <- Refs],
    test_eventually:true(fun() -> [e || #{error := _} <- maps:get(workers, py:info(mine))] =:= [] end),
    application:unset_env(erlang_python, liveness_ms).

%% Rows as a hundred workers have them: a millisecond is enough for all.
-spec info_of_a_hundred_workers(ct_suite:ct_config()) -> term().
info_of_a_hundred_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    #{workers := [#{pid := Pid}]} = py:info(mine),
    [Row] = ets:lookup(py_workers, Pid),
    Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 99)],
    [ets:insert(py_workers, setelement(2, Row, Other)) || Other <- Pids],
    ?assertMatch(#{workers := Workers} when length(Workers) =:= 100, py:info(mine)),
    %% The shortest of some: other programs run beside the test.
    Fastest = lists:min([element(1, timer:tc(py, info, [])) || _ <- lists:seq(1, 50)]),
    ct:pal("info of 100 workers: ~b us", [Fastest]),
    ?assert(Fastest < 1000),
    [begin ets:delete(py_workers, Other), Other ! stop end || Other <- Pids].

%% A pid of the list is good for a request.
-spec workers_that_are_listed(ct_suite:ct_config()) -> term().
workers_that_are_listed(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2, none => nil, binaries => bytes}),
    #{workers := Workers} = py:info(mine),
    [
        begin
            ?assertEqual({ok, OsPid}, py:call(os, getpid, [], #{}, #{pool => Pid})),
            ?assertEqual({ok, <<"bytes">>}, py:eval("type(x).__name__", #{x => <<"a">>}, #{pool => Pid})),
            ?assertMatch(#{pool := mine}, py:info(Pid))
        end
     || #{pid := Pid, os_pid := OsPid} <- Workers
    ],
    ok = py:stop_pool(mine),
    [?assertEqual({error, {no_pool, Pid}}, py:eval("1", #{}, #{pool => Pid})) || #{pid := Pid} <- Workers],
    {ok, Own} = py:start_worker(#{}),
    #{workers := [#{pid := Listed}]} = py:info(Own),
    ?assertEqual({ok, 1}, py:eval("1", #{}, #{pool => Listed})),
    ok = py:stop_worker(Own).

%% It fits a terminal, whatever there is to say, and can be repeated.
-spec a_table_for_the_shell(ct_suite:ct_config()) -> term().
a_table_for_the_shell(_Config) ->
    Long = list_to_atom(lists:duplicate(200, $x)),
    {ok, _} = py:start_pool(Long, #{workers => 1}),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    Error = {'ModuleNotFoundError', unicode:characters_to_binary(lists:duplicate(500, $y))},
    Pools = maps:map(fun(_, Pool) -> Pool#{restarts => 123456, last_exit => Error, size => 4} end, py:info()),
    [
        ?assert(string:length(Line) =< 100, Line)
     || Text <- [py_info_format:format(Pools), py_info_format:format(py:info())],
        Line <- string:split(unicode:characters_to_list(Text), "\n", all)
    ],
    Self = self(),
    Device = spawn(fun() -> device(Self) end),
    Printer = spawn(fun() ->
        group_leader(Device, self()),
        py:i(1)
    end),
    Tables = [receive {printed, Chars} -> Chars end || _ <- [first, second, pause, third]],
    ?assertMatch(["pool" ++ _, "pool" ++ _ | _], [T || T <- Tables, T =/= "\n"]),
    exit(Printer, kill),
    ?assertError({badopt, {seconds, 0}}, py:i(0)).

device(To) ->
    receive
        {io_request, From, As, {put_chars, unicode, Chars}} ->
            To ! {printed, unicode:characters_to_list(Chars)},
            From ! {io_reply, As, ok},
            device(To);
        {io_request, From, As, _} ->
            From ! {io_reply, As, {error, request}},
            device(To)
    end.

%%% Helpers.

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Specs) ->
    {ok, {#{intensity => 5}, Specs}}.

start(Specs) ->
    supervisor:start_link(?MODULE, Specs).

stop(Sup) ->
    exit(Sup, shutdown),
    receive
        {'EXIT', Sup, shutdown} -> ok
    end.

call(M, F) ->
    py:call(M, F, [], #{}, #{pool => mine}).

eval(Code) ->
    py:eval(Code, #{}, #{pool => mine}).

exec(Code) ->
    py:exec(Code, #{pool => mine}).

signal(OsPid, Name) ->
    "" = os:cmd("kill -" ++ Name ++ " " ++ integer_to_list(OsPid)).
