%% @doc The recipes of docs/distributed-python.md, with a cluster of Ray's and one of Dask's on this machine.
%% A case is skipped where its package is not installed for the interpreter that ERLANG_PYTHON names.
-module(py_distributed_python_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([ray/1, dask/1]).

-define(LONG, 60000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5}}].

-spec all() -> [atom()].
all() ->
    [ray, dask].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_testcase(Case, Config) ->
    Package = proplists:get_value(Case, [{ray, "ray"}, {dask, "distributed"}]),
    Python = os:getenv("ERLANG_PYTHON", "python3"),
    case test_program:run(Python, ["-c", "import " ++ Package], #{}) of
        {0, _} -> start(Case, Python, Config);
        _ -> {skip, "the Python package " ++ Package ++ " is not installed"}
    end.

start(Case, Python, Config) ->
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Bin = filename:dirname(os:find_executable(Python)),
    Examples = filename:join(test_program:root(), "examples"),
    Dir = ?config(priv_dir, Config),
    %% What runs on the cluster is imported there.
    Env = [{"PYTHONPATH", Examples ++ ":" ++ filename:absname(Dir)}],
    {Programs, Preload, Arguments} = cluster(Case, Bin, Env),
    ok = file:write_file(filename:join(Dir, "marked.py"), marked()),
    Pool = #{workers => 1, python_path => [Examples, Dir], preload => Preload},
    %% The cluster takes a while until it can be reached.
    test_eventually:true(fun() -> element(1, py:start_pool(Case, Pool)) =:= ok end, ?LONG),
    [{programs, Programs}, {arguments, Arguments}, {marks, filename:join(Dir, atom_to_list(Case) ++ "_marks")} | Config].

%% What starts the cluster, as a supervisor of the system would.
cluster(ray, Bin, Env) ->
    Port = integer_to_list(free_port()),
    Address = "127.0.0.1:" ++ Port,
    Arguments = ["start", "--head", "--block", "--port", Port, "--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"],
    {[program(filename:join(Bin, "ray"), Arguments, Env)], ["import over_ray; over_ray.connect('" ++ Address ++ "')"], []};
cluster(dask, Bin, Env) ->
    Port = integer_to_list(free_port()),
    Address = "tcp://127.0.0.1:" ++ Port,
    Dask = filename:join(Bin, "dask"),
    Scheduler = program(Dask, ["scheduler", "--host", "127.0.0.1", "--port", Port, "--no-dashboard"], Env),
    Worker = program(Dask, ["worker", Address, "--nworkers", "1", "--nthreads", "2", "--no-dashboard", "--no-nanny"], Env),
    {[Scheduler, Worker], ["import over_dask"], [list_to_binary(Address)]}.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

program(Program, Arguments, Env) ->
    open_port({spawn_executable, Program}, [{args, Arguments}, {env, Env}, exit_status, stderr_to_stdout, binary]).

%% What runs on the clusters marks in a file what it does: `.' for each value, `e' for the end.
marked() ->
    "import time\n"
    "\n"
    "def mark(path, what):\n"
    "    with open(path, 'a') as marks:\n"
    "        marks.write(what)\n"
    "\n"
    "def values(path, count, pause):\n"
    "    try:\n"
    "        for number in range(count):\n"
    "            mark(path, '.')\n"
    "            time.sleep(pause)\n"
    "            yield number\n"
    "    finally:\n"
    "        mark(path, 'e')\n"
    "\n"
    "def value(path, pause, number):\n"
    "    mark(path, '.')\n"
    "    time.sleep(pause)\n"
    "    return number\n"
    "\n"
    "def over_ray(path, count, pause):\n"
    "    import over_ray\n"
    "    return over_ray.streamed(values, path, count, pause)\n"
    "\n"
    "def over_dask(address, path, count, pause):\n"
    "    import functools, over_dask\n"
    "    return over_dask.mapped(address, functools.partial(value, path, pause), range(count))\n".

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, Config) ->
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools),
    [ended(Program) || Program <- lists:reverse(?config(programs, Config))],
    ok.

ended(Program) ->
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    %% Not the port, which would hide its end.
    _ = os:cmd("kill -TERM " ++ integer_to_list(Pid)),
    receive
        {Program, {exit_status, _}} -> ok
    after 20000 ->
        os:cmd("kill -KILL -" ++ integer_to_list(Pid))
    end.

-spec ray(ct_suite:ct_config()) -> ok.
ray(Config) ->
    ?assertEqual({ok, [N * N || N <- lists:seq(0, 99)]}, py:stream(over_ray, squares, [100], #{}, #{pool => ray, timeout => ?LONG})),
    recipe(ray, over_ray, Config),
    %% The generator there has ended, too.
    test_eventually:true(fun() -> lists:suffix("e", marks(Config)) end),
    killed(ray, over_ray, Config).

-spec dask(ct_suite:ct_config()) -> ok.
dask(Config) ->
    Squares = py:stream(over_dask, squares, ?config(arguments, Config) ++ [100], #{}, #{pool => dask, timeout => ?LONG}),
    ?assertEqual({ok, [N * N || N <- lists:seq(0, 99)]}, Squares),
    recipe(dask, over_dask, Config),
    killed(dask, over_dask, Config).

recipe(Pool, Function, Config) ->
    %% An owner that sleeps holds the cluster up, except for what the window and the recipe let run ahead.
    {ok, Asleep} = open(Pool, Function, 3000, 0, #{window => 8}, Config),
    still(Config),
    Ahead = length(marks(Config)),
    ct:pal("~b values for a window of 8", [Ahead]),
    ?assert(Ahead >= 8),
    ?assert(Ahead =< 8 + 4 + 4),
    [?assertEqual({ok, N}, py:stream_next(Asleep, ?LONG)) || N <- lists:seq(0, 99)],
    ok = py:stream_cancel(Asleep, [flush]),
    %% A cancel while the cluster computes ends the stream at once, and nothing more is begun there.
    {ok, Waits} = open(Pool, Function, 1000, 30, #{}, Config),
    test_eventually:true(fun() -> marks(Config) =/= "" end, ?LONG),
    ok = py:stream_cancel(Waits),
    ?assertEqual({error, cancelled}, py:stream_next(Waits, ?LONG)),
    test_eventually:equal(0, fun() ->
        #{workers := [#{streams := Streams}]} = py:info(Pool),
        Streams
    end).

%% The worker is killed: one end.
killed(Pool, Function, Config) ->
    {ok, Ref} = open(Pool, Function, 100000, 0.01, #{}, Config),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    #{workers := [#{os_pid := Pid}]} = py:info(Pool),
    ok = test_os_process:kill(Pid),
    ?assertEqual({worker_exit, {signal, 9}}, reason(Ref)),
    still(Config).

reason(Ref) ->
    case py:stream_next(Ref, ?LONG) of
        {ok, _} -> reason(Ref);
        {error, Reason} -> Reason
    end.

open(Pool, Function, Count, Pause, Opts, Config) ->
    Marks = ?config(marks, Config),
    ok = file:write_file(Marks, ""),
    Args = ?config(arguments, Config) ++ [list_to_binary(Marks), Count, Pause],
    py:stream_start(marked, Function, Args, Opts#{pool => Pool}).

marks(Config) ->
    {ok, Marks} = file:read_file(?config(marks, Config)),
    binary_to_list(Marks).

%% Nothing more is done there.
still(Config) ->
    test_eventually:true(
        fun() ->
            Before = marks(Config),
            timer:sleep(1000),
            Before =/= "" andalso marks(Config) =:= Before
        end,
        ?LONG
    ).
