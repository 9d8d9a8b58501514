%% @doc However a node, an application, a pool or a worker ends: a second later no Python
%% process of theirs is left, not even one that is stuck in C code with the interpreter lock.
%%
%% Each pool's processes carry a mark in their environment, so that those are found, too, that
%% nobody knows of any more. ORPHAN_ROUNDS in the environment says how often each case ends
%% what it ends.
-module(py_orphan_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([
    node_stops/1,
    node_that_stops_closes_generators/1,
    node_stops_while_a_pool_starts/1,
    node_halts/1,
    node_is_killed/1,
    node_is_killed_while_workers_start/1,
    children_end_with_a_node_that_is_killed/1,
    children_outlive_the_reaper/1,
    application_stops/1,
    pool_stops/1,
    manager_is_killed/1,
    worker_is_killed/1,
    interrupt_in_a_terminal/1
]).
%% Called on the other node.
-export([begin_load/1, begin_start/3, begin_closing/2, start_pools/1, os_pids/0, kill_manager/1, kill_worker/1]).

%% What the contract allows is a second; a machine that does much else at the time takes longer.
-define(LIMIT_MS, 5000).
-define(ROUNDS, "3").

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {seconds, 60 + 20 * rounds()}}].

-spec all() -> [atom()].
all() ->
    [
        node_stops,
        node_that_stops_closes_generators,
        node_stops_while_a_pool_starts,
        node_halts,
        node_is_killed,
        node_is_killed_while_workers_start,
        children_end_with_a_node_that_is_killed,
        children_outlive_the_reaper,
        application_stops,
        pool_stops,
        manager_is_killed,
        worker_is_killed,
        interrupt_in_a_terminal
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case filelib:is_file("/proc/self/environ") of
        true -> Config;
        false -> {skip, "there is no /proc to look for processes in"}
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok.

%%% Cases.

%% `init:stop' leaves no Python process behind, whatever the node was doing.
-spec node_stops(ct_suite:ct_config()) -> ok.
node_stops(_Config) ->
    rounds(fun() ->
        with_loaded_node(fun(Node, Mark) ->
            BeamPid = peer:call(Node, os, getpid, []),
            ok = peer:call(Node, init, stop, []),
            test_eventually:equal(false, fun() -> test_os_process:is_running(BeamPid) end),
            none_left(Mark)
        end)
    end).

%% And its generators have run their `finally' blocks to the end.
-spec node_that_stops_closes_generators(ct_suite:ct_config()) -> ok.
node_that_stops_closes_generators(Config) ->
    File = filename:join(?config(priv_dir, Config), "closed"),
    rounds(fun() ->
        with_node(fun(Node, Mark) ->
            _ = file:delete(File),
            ok = peer:call(Node, ?MODULE, begin_closing, [Mark, unicode:characters_to_binary(File)]),
            ok = peer:call(Node, init, stop, []),
            Took = none_left(Mark),
            ?assertEqual({ok, <<"closed">>}, file:read_file(File)),
            Took
        end)
    end).

%% Nor does a node wait that is asked to stop, by `init:stop' or by SIGTERM, while a pool starts that never
%% will: one of its configuration, which keeps the application's start waiting, or another.
-spec node_stops_while_a_pool_starts(ct_suite:ct_config()) -> ok.
node_stops_while_a_pool_starts(Config) ->
    File = filename:join(?config(priv_dir, Config), "preloads"),
    Preloads = [
        "import time\ntime.sleep(3600)",
        "while True: pass",
        "import ctypes\nctypes.PyDLL(None).sleep(3600)",
        "import signal, subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsubprocess.run(['sleep', '3600'])"
    ],
    Times = [
        with_node(fun(Node, Mark) ->
            _ = file:delete(File),
            BeamPid = peer:call(Node, os, getpid, []),
            Code = lists:flatten(io_lib:format("open(~p, 'w').close()~n~s~n", [File, Preload])),
            Opts = #{workers => 2, preload => [Code], start_timeout => infinity, env => [{Mark, "1"}]},
            ok = peer:call(Node, ?MODULE, begin_start, [How, Opts, os:getenv("ERLANG_PYTHON", "python3")]),
            test_eventually:true(fun() -> filelib:is_file(File) end),
            ok = stop(Signal, Node, BeamPid),
            within(fun() -> not test_os_process:is_running(BeamPid) end) + none_left(Mark)
        end)
     || {How, Signal, Preload} <- lists:append([
            [{configured, sigterm, Preload}, {configured, init_stop, Preload}, {running, sigterm, Preload}]
         || Preload <- Preloads
        ])
    ],
    ct:pal("~p ms", [Times]).

stop(init_stop, Node, _BeamPid) ->
    peer:call(Node, init, stop, []);
stop(sigterm, _Node, BeamPid) ->
    [] = os:cmd("kill " ++ BeamPid),
    ok.

%% A node that halts on the spot leaves nothing.
-spec node_halts(ct_suite:ct_config()) -> ok.
node_halts(_Config) ->
    rounds(fun() ->
        with_loaded_node(fun(Node, Mark) ->
            ok = peer:cast(Node, erlang, halt, [1, [{flush, false}]]),
            none_left(Mark)
        end)
    end).

%% Nor does a node that is killed, and that had no time for anything.
-spec node_is_killed(ct_suite:ct_config()) -> ok.
node_is_killed(_Config) ->
    rounds(fun() ->
        with_loaded_node(fun(Node, Mark) ->
            kill(peer:call(Node, os, getpid, [])),
            none_left(Mark)
        end)
    end).

%% The same where workers are not ready yet.
-spec node_is_killed_while_workers_start(ct_suite:ct_config()) -> ok.
node_is_killed_while_workers_start(_Config) ->
    rounds(fun() ->
        with_node(fun(Node, Mark) ->
            BeamPid = peer:call(Node, os, getpid, []),
            ok = peer:cast(Node, ?MODULE, start_pools, [Mark]),
            test_eventually:true(fun() -> marked(Mark) =/= [] end),
            kill(BeamPid),
            none_left(Mark)
        end)
    end).

%% Programs that Python code has started are in nobody's care then, but for a pool that is to leave them.
-spec children_end_with_a_node_that_is_killed(ct_suite:ct_config()) -> ok.
children_end_with_a_node_that_is_killed(_Config) ->
    with_node(fun(Node, Mark) ->
        ok = peer:call(Node, ?MODULE, start_pools, [Mark]),
        {ok, _} = peer:call(Node, py, start_pool, [left, #{workers => 1, env => [{Mark, "1"}], children => leave}]),
        [Left | _] = children(Node, Mark, [left, busy, stuck, calm]),
        kill(peer:call(Node, os, getpid, [])),
        _ = within(fun() -> marked(Mark) =:= [Left] end),
        ?assert(test_os_process:is_running(Left))
    end).

%% The shell that ends them sees the end of its input when the process ends that has opened it, too.
-spec children_outlive_the_reaper(ct_suite:ct_config()) -> ok.
children_outlive_the_reaper(_Config) ->
    with_node(fun(Node, Mark) ->
        ok = peer:call(Node, ?MODULE, start_pools, [Mark]),
        Children = children(Node, Mark, [busy, stuck, calm]),
        Known = marked(Mark),
        BeamPid = peer:call(Node, os, getpid, []),
        [Shell] = shells(Node),
        true = peer:call(Node, erlang, exit, [peer:call(Node, erlang, whereis, [py_reaper]), kill]),
        test_eventually:equal(false, fun() -> test_os_process:is_running(Shell) end),
        ?assertEqual(Known, marked(Mark)),
        %% The next one has it all.
        test_eventually:equal(1, fun() -> length(shells(Node)) end),
        {ok, 2} = peer:call(Node, py, eval, ["1 + 1", #{}, #{pool => calm}]),
        ok = peer:call(Node, py, stop_pool, [calm]),
        test_eventually:equal(false, fun() -> test_os_process:is_running(lists:last(Children)) end),
        kill(BeamPid),
        none_left(Mark)
    end).

%% A program that each pool's Python code has started; execve(2) lets the parent go on before the environment of
%% such a one can be read.
children(Node, Mark, Pools) ->
    Children = [child(Node, Pool) || Pool <- Pools],
    test_eventually:equal([], fun() -> Children -- marked(Mark) end),
    Children.

%% Started by the system alone, not by a thread of Python's that lives as long as it does.
child(Node, Pool) ->
    Code = "__import__('subprocess').Popen(args).pid",
    {ok, Pid} = peer:call(Node, py, eval, [Code, #{args => [<<"sleep">>, <<"3600">>]}, #{pool => Pool}]),
    integer_to_list(Pid).

%% The shells of the node by which it sends signals.
shells(Node) ->
    Ports = peer:call(Node, erlang, ports, []),
    [
        integer_to_list(OsPid)
     || Port <- Ports,
        {name, "/bin/sh"} <- [peer:call(Node, erlang, port_info, [Port, name])],
        {os_pid, OsPid} <- [peer:call(Node, erlang, port_info, [Port, os_pid])],
        {ok, Arguments} <- [file:read_file(["/proc/", integer_to_list(OsPid), "/cmdline"])],
        binary:match(Arguments, <<"read -r">>) =/= nomatch
    ].

%% When the application has stopped, all of its processes have ended.
-spec application_stops(ct_suite:ct_config()) -> ok.
application_stops(_Config) ->
    with_node(fun(Node, Mark) ->
        rounds(fun() ->
            load(Node, Mark),
            ok = peer:call(Node, application, stop, [erlang_python], 30000),
            ?assertEqual([], marked(Mark)),
            0
        end)
    end).

%% A pool that is stopped takes its processes with it, and no others.
-spec pool_stops(ct_suite:ct_config()) -> ok.
pool_stops(_Config) ->
    with_node(fun(Node, Mark) ->
        rounds(fun() ->
            Before = load(Node, Mark),
            [ok = peer:call(Node, py, stop_pool, [Pool], 30000) || Pool <- [busy, stuck]],
            Took = gone(maps:get(busy, Before) ++ maps:get(stuck, Before)),
            ?assertEqual(maps:get(calm, Before), marked(Mark)),
            ok = peer:call(Node, py, stop_pool, [calm], 30000),
            max(Took, none_left(Mark))
        end)
    end).

%% A pool's manager that is killed leaves none of the processes that it had.
-spec manager_is_killed(ct_suite:ct_config()) -> ok.
manager_is_killed(_Config) ->
    with_node(fun(Node, Mark) ->
        rounds(fun() ->
            Before = load(Node, Mark),
            [ok = peer:call(Node, ?MODULE, kill_manager, [Pool]) || Pool <- [busy, stuck]],
            Took = gone(maps:get(busy, Before) ++ maps:get(stuck, Before)),
            only_known(Node, Mark),
            stop(Node, Mark),
            Took
        end)
    end).

%% Nor does a worker process that is killed.
-spec worker_is_killed(ct_suite:ct_config()) -> ok.
worker_is_killed(_Config) ->
    with_node(fun(Node, Mark) ->
        rounds(fun() ->
            #{stuck := Stuck} = load(Node, Mark),
            Busy = peer:call(Node, ?MODULE, kill_worker, [busy]),
            Stuck = [peer:call(Node, ?MODULE, kill_worker, [stuck])],
            Took = gone([Busy | Stuck]),
            only_known(Node, Mark),
            stop(Node, Mark),
            Took
        end)
    end).

%% Ctrl-C in a terminal is the node's alone: after `c' for "continue" the same worker answers.
-spec interrupt_in_a_terminal(ct_suite:ct_config()) -> ok.
interrupt_in_a_terminal(Config) ->
    Script = filename:join(?config(data_dir, Config), "terminal.py"),
    Python = os:find_executable(os:getenv("ERLANG_PYTHON", "python3")),
    Erl = [os:find_executable("erl"), "-pa" | code:get_path()],
    {Status, Printed} = test_program:run(Python, [Script | Erl], #{env => [{"TERM", "dumb"}]}),
    ?assertEqual({0, Printed}, {Status, Printed}),
    [Before, After] = string:lexemes(Printed, " \r\n"),
    ?assertEqual(Before, After).

%%% On the other node.

%% @doc Starts the pools, and gives their processes when all are at work: `busy' streams as
%% fast as it can, `stuck' holds the interpreter lock, `calm' does nothing.
-spec begin_load(Mark :: string()) -> #{atom() => [string()]}.
begin_load(Mark) ->
    start_pools(Mark),
    [spawn(fun stream/0) || _ <- lists:seq(1, 20)],
    spawn(fun() -> py:eval("__import__('ctypes').PyDLL(None).sleep(600)", #{}, #{pool => stuck}) end),
    test_eventually:true(fun() ->
        py:call(os, getpid, [], #{}, #{pool => stuck, timeout => 20}) =:= {error, timeout}
    end),
    os_pids().

%% @doc Begins to start a pool, as one of the configuration or in a running application.
-spec begin_start(configured | running, map(), Python :: string()) -> ok.
begin_start(How, Opts, Python) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, python, Python),
    ok = application:set_env(erlang_python, pools, maps:from_list([{slow, Opts} || How =:= configured])),
    Start = fun() -> {ok, _} = application:ensure_all_started(erlang_python) end,
    case How of
        configured ->
            _ = spawn(Start),
            ok;
        running ->
            _ = Start(),
            _ = spawn(fun() -> py:start_pool(slow, Opts) end),
            _ = spawn(fun() -> py:start_worker(maps:remove(workers, Opts)) end),
            ok
    end.

%% @doc Starts the pools.
-spec start_pools(Mark :: string()) -> ok.
start_pools(Mark) ->
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Env = [{Mark, "1"}],
    {ok, _} = py:start_pool(busy, #{workers => 2, env => Env}),
    {ok, _} = py:start_pool(stuck, #{workers => 1, env => Env}),
    {ok, _} = py:start_pool(calm, #{workers => 1, env => Env}),
    ok.

%% @doc Starts a generator that takes a tenth of a second to close, and then leaves a file.
-spec begin_closing(Mark :: string(), File :: binary()) -> ok.
begin_closing(Mark, File) ->
    start_pools(Mark),
    Code =
        "import time\n"
        "def closing(file):\n"
        "    try:\n"
        "        while True:\n"
        "            yield 1\n"
        "            time.sleep(0.01)\n"
        "    finally:\n"
        "        time.sleep(0.1)\n"
        "        with open(file, 'w') as opened:\n"
        "            opened.write('closed')\n",
    ok = py:exec(Code, #{pool => calm}),
    Self = self(),
    spawn(fun() ->
        {ok, Ref} = py:stream_start('__main__', closing, [File], #{pool => calm}),
        {ok, 1} = py:stream_next(Ref),
        Self ! begun,
        take(Ref)
    end),
    receive
        begun -> ok
    end.

stream() ->
    case py:stream_start(itertools, count, [], #{pool => busy}) of
        {ok, Ref} -> take(Ref);
        {error, _} -> ok
    end.

take(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> take(Ref);
        {py_stream, Ref, {error, _}} -> ok
    end.

%% @doc The processes of each pool, sorted.
-spec os_pids() -> #{atom() => [string()]}.
os_pids() ->
    maps:from_list([
        {Pool, lists:sort([test_workers:os_pid(Worker) || Worker <- test_workers:ready(Pool)])}
     || Pool <- py_pool:names()
    ]).

%% @doc Kills a pool's manager.
-spec kill_manager(Pool :: atom()) -> ok.
kill_manager(Pool) ->
    exit(manager(Pool), kill),
    ok.

%% The manager is the workers' parent.
manager(Pool) ->
    [Worker | _] = test_workers:ready(Pool),
    {dictionary, Dictionary} = process_info(Worker, dictionary),
    hd(proplists:get_value('$ancestors', Dictionary)).

%% @doc Kills one of a pool's worker processes, and gives the Python process that it had.
-spec kill_worker(Pool :: atom()) -> string().
kill_worker(Pool) ->
    [Worker | _] = test_workers:ready(Pool),
    OsPid = test_workers:os_pid(Worker),
    exit(Worker, kill),
    OsPid.

%%% Helpers.

rounds() ->
    list_to_integer(os:getenv("ORPHAN_ROUNDS", ?ROUNDS)).

%% Runs it so often, and says how long the slowest took, in milliseconds.
rounds(Round) ->
    Times = [Round() || _ <- lists:seq(1, rounds())],
    ct:pal("~b rounds, the slowest took ~b ms", [length(Times), lists:max(Times)]),
    ok.

with_node(Fun) ->
    Mark = "ORPHAN_" ++ integer_to_list(erlang:unique_integer([positive])) ++ "_" ++ os:getpid(),
    %% Not linked: some are killed.
    {ok, Node, _} = peer:start(#{connection => standard_io, args => ["-pa" | code:get_path()]}),
    try
        Fun(Node, Mark)
    after
        stop(Node),
        %% Those that have ended meanwhile do not hide what the case failed with.
        [os:cmd("kill -9 " ++ Pid) || Pid <- marked(Mark)]
    end.

%% Most cases have killed it.
stop(Node) ->
    try
        peer:stop(Node)
    catch
        exit:_ -> ok
    end.

with_loaded_node(Fun) ->
    with_node(fun(Node, Mark) ->
        load(Node, Mark),
        Fun(Node, Mark)
    end).

load(Node, Mark) ->
    Pids = peer:call(Node, ?MODULE, begin_load, [Mark], 30000),
    ?assertEqual(lists:sort(lists:append(maps:values(Pids))), marked(Mark)),
    Pids.

stop(Node, Mark) ->
    ok = peer:call(Node, application, stop, [erlang_python], 30000),
    ?assertEqual([], marked(Mark)).

%% Every process is one that its node knows, once those that were lost have been replaced.
only_known(Node, Mark) ->
    test_eventually:true(fun() ->
        #{busy := Busy, stuck := Stuck, calm := Calm} = peer:call(Node, ?MODULE, os_pids, []),
        length(Busy ++ Stuck ++ Calm) =:= 4 andalso
            lists:sort(Busy ++ Stuck ++ Calm) =:= marked(Mark)
    end).

none_left(Mark) ->
    within(fun() -> marked(Mark) =:= [] end).

gone(Pids) ->
    within(fun() -> not lists:any(fun test_os_process:is_running/1, Pids) end).

%% Waits until it is true, which must be soon; gives how long that took.
within(Fun) ->
    Start = erlang:monotonic_time(millisecond),
    test_eventually:true(Fun),
    Took = erlang:monotonic_time(millisecond) - Start,
    ?assert(Took =< ?LIMIT_MS, {took_ms, Took}),
    Took.

kill(Pid) ->
    [] = os:cmd("kill -9 " ++ Pid),
    ok.

%% The processes with this mark in their environment, sorted.
marked(Mark) ->
    {ok, Names} = file:list_dir("/proc"),
    lists:sort([Name || Name <- Names, is_marked(Name, list_to_binary(Mark))]).

is_marked([First | _] = Pid, Mark) when First >= $1, First =< $9 ->
    case file:read_file(["/proc/", Pid, "/environ"]) of
        {ok, Environ} ->
            binary:match(Environ, Mark) =/= nomatch andalso test_os_process:is_running(Pid);
        {error, _} ->
            false
    end;
is_marked(_Name, _Mark) ->
    false.
