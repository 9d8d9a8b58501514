%% @doc The node itself is short of something: descriptors, ports, processes, heap, what /proc says.
%% Requests may be refused then, and that is all: nothing ends that need not, what must be ended is,
%% and afterwards everything is as it was. Each case has a node of its own.
%%
%% `LIMITS_MS' says for how long each goes on.
-module(py_limits_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    no_descriptors/1,
    no_ports/1,
    no_processes/1,
    no_proc/1,
    a_limit_of_every_heap/1
]).
%% Called in the other nodes.
-export([survive/3, exceed/2]).

-define(LONG, 10000).
-define(MS, "2000").

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5}}].

-spec all() -> [atom()].
all() ->
    [no_descriptors, no_ports, no_processes, a_limit_of_every_heap | [no_proc || filelib:is_dir("/proc/self")]].

%% A new process of Python has it in its environment, and so is found whatever the node knows of it.
-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    [{mark, "LIMITS_" ++ integer_to_list(erlang:unique_integer([positive])) ++ "_" ++ os:getpid()} | Config].

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, Config) ->
    [os:cmd("kill -9 " ++ Pid) || Pid <- marked(Config)].

%%% Cases.

-spec no_descriptors(ct_suite:ct_config()) -> ok.
no_descriptors(Config) ->
    Limited = "ulimit -n 256; exec \"$@\"",
    survived(descriptors, #{exec => {"/bin/sh", ["-c", Limited, "sh", erl()]}}, [], Config).

-spec no_ports(ct_suite:ct_config()) -> ok.
no_ports(Config) ->
    survived(ports, #{}, ["+Q", "1024"], Config).

-spec no_processes(ct_suite:ct_config()) -> ok.
no_processes(Config) ->
    survived(processes, #{}, ["+P", "1024"], Config).

%% A node in a container may see no /proc, or lose it.
-spec no_proc(ct_suite:ct_config()) -> ok | {skip, string()}.
no_proc(Config) ->
    case os:cmd("unshare -m mount -t tmpfs none /proc 2>&1") of
        "" -> survived(proc, #{exec => {os:find_executable("unshare"), ["-m", erl()]}}, [], Config);
        Why -> {skip, Why}
    end.

%% Every process that is started from now on may be ended for its heap, those of the library among them:
%% each request has one answer nevertheless. With `+hmax' those of kernel would have the limit too, and
%% the node ends with them.
-spec a_limit_of_every_heap(ct_suite:ct_config()) -> ok.
a_limit_of_every_heap(Config) ->
    with_node(#{}, [], Config, fun(Node) ->
        ok = peer:call(Node, ?MODULE, exceed, [python(), mark(Config)], 6 * ?LONG)
    end).

survived(Limit, Options, Args, Config) ->
    with_node(Options, Args, Config, fun(Node) ->
        Ms = list_to_integer(os:getenv("LIMITS_MS", ?MS)),
        {Counts, OsPids} = peer:call(Node, ?MODULE, survive, [Limit, Ms, {python(), mark(Config)}], Ms + 6 * ?LONG),
        ct:pal("~p", [Counts]),
        test_eventually:equal(lists:sort(OsPids), fun() -> marked(Config) end)
    end).

with_node(Options, Args, Config, Fun) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
    {ok, Node, _} = peer:start(Options#{connection => 0, args => Args ++ Paths, wait_boot => ?LONG}),
    try
        Fun(Node)
    after
        stop(Node)
    end,
    test_eventually:equal([], fun() -> marked(Config) end).

%% Why a node has ended is what the call to it says.
stop(Node) ->
    try
        peer:stop(Node)
    catch
        exit:{noproc, _} -> ok
    end.

erl() -> os:find_executable("erl").

python() -> os:getenv("ERLANG_PYTHON", "python3").

mark(Config) -> proplists:get_value(mark, Config).

marked(Config) ->
    Mark = list_to_binary(mark(Config)),
    lists:sort([
        Pid
     || Environ <- filelib:wildcard("/proc/[0-9]*/environ"),
        {ok, Variables} <- [file:read_file(Environ)],
        binary:match(Variables, Mark) =/= nomatch,
        Pid <- [lists:nth(3, filename:split(Environ))]
    ]).

%%% In the other node.

%% @doc Goes on while something is used up, for so long, and then without. Gives how often a request of each kind was
%% answered how, and the Python processes that there are at the end.
-spec survive(atom(), pos_integer(), {string(), string()}) -> {map(), [string()]}.
survive(Limit, Ms, {Python, Mark}) ->
    %% A worker of one's own is linked, and so is what is left of one that cannot start.
    process_flag(trap_exit, true),
    load(),
    start(Python, Mark, #{liveness_ms => 100}),
    Before = library(),
    Workers = test_workers:ready(calm),
    {ok, Ticks} = py:stream_start('__main__', ticks, [], #{pool => calm}),
    {ok, 0} = py:stream_next(Ticks, ?LONG),
    {ok, Stuck} = py:stream_start('__main__', stuck, [], #{pool => stuck}),
    {ok, 1} = py:stream_next(Stuck, ?LONG),
    test_eventually:equal({error, timeout}, fun() ->
        py:call(os, getpid, [], #{}, #{pool => stuck, timeout => 20})
    end),
    [StuckOne] = test_workers:ready(stuck),
    StuckOsPid = test_workers:os_pid(StuckOne),
    Held = use_up(Limit),
    %% It must be ended, without anything new.
    ok = py:stream_cancel(Stuck),
    %% On a busy machine the call above was given up so long before that it is replaced already.
    {error, Why} = py:stream_next(Stuck, ?LONG),
    true = lists:member(Why, [cancelled, {worker_exit, kill_after}]),
    Counts = go_on(erlang:monotonic_time(millisecond) + Ms, Ticks, 1, #{}),
    test_eventually:equal(false, fun() -> is_there(StuckOsPid, Limit) end),
    give_back(Limit, Held),
    ok = py:stream_cancel(Ticks, [flush]),
    %% All is as it was, and whole.
    test_eventually:equal(ok, fun() -> element(1, ask(py:eval("1 + 1", #{}, #{pool => stuck}))) end),
    {ok, 2.0} = py:call(math, sqrt, [4], #{}, #{pool => calm}),
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3], #{}, #{pool => calm}),
    ok = py:exec("after = 1", #{pool => calm}),
    {ok, 4} = py:eval("erlang.call('double', 2)", #{}, #{pool => calm}),
    {ok, _} = py:start_pool(other, #{workers => 1, python => Python, env => [{Mark, "1"}]}),
    ok = py:stop_pool(other),
    Before = library(),
    Workers = test_workers:ready(calm),
    #{restarts := 0} = py:info(calm),
    #{restarts := 1, failures := 0} = py:info(stuck),
    test_leftovers:none(),
    {Counts, [test_workers:os_pid(Worker) || Pool <- [calm, stuck], Worker <- test_workers:ready(Pool)]}.

%% Without a descriptor. What has no /proc is seen by the other node afterwards.
is_there(_OsPid, proc) -> false;
is_there(OsPid, _Limit) -> filelib:is_dir("/proc/" ++ OsPid).

%% As in a release, where nothing is loaded later; the application loads its own modules.
load() ->
    ok = logger:set_primary_config(level, none),
    ok = application:load(erlang_python),
    [_ = code:ensure_modules_loaded(modules(App)) || App <- [kernel, stdlib]],
    {module, _} = code:ensure_loaded(test_workers),
    {module, _} = code:ensure_loaded(test_eventually).

start(Python, Mark, Env) ->
    Pool = #{workers => 2, python => Python, env => [{Mark, "1"}], worker_wait => 0},
    Stuck = Pool#{workers => 1, interrupt_after => 20, kill_after => 50},
    ok = application:set_env(erlang_python, pools, #{calm => Pool, stuck => Stuck}),
    maps:foreach(fun(Key, Value) -> ok = application:set_env(erlang_python, Key, Value) end, Env),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:register_function(double, fun([N]) -> 2 * N end),
    Code =
        "import ctypes, erlang, itertools, time\n"
        "def ticks():\n"
        "    for n in itertools.count():\n"
        "        yield n\n"
        "        time.sleep(0.001)\n"
        "def stuck():\n"
        "    yield 1\n"
        "    ctypes.PyDLL(None).sleep(600)\n"
        "    yield 2\n",
    [ok = py:exec(Code, #{pool => Name}) || Name <- [calm, stuck]],
    {ok, 4} = py:eval("erlang.call('double', 2)", #{}, #{pool => calm}),
    ok.

modules(App) ->
    {ok, Modules} = application:get_key(App, modules),
    Modules.

%% The processes of the library that live as long as it does.
library() ->
    {[whereis(Name) || Name <- [py_sup, py_pool_sup, py_reaper, py_stream_guard, py_mail_counter]],
        [element(1, py_pool:owner(Pool)) || Pool <- [calm, stuck]]}.

go_on(Deadline, Ticks, Next, Counts) ->
    case erlang:monotonic_time(millisecond) < Deadline of
        true ->
            %% The stream that ran before goes on, whatever is asked for meanwhile.
            {ok, Next} = py:stream_next(Ticks, ?LONG),
            go_on(Deadline, Ticks, Next + 1, lists:foldl(fun count/2, Counts, requests(Next)));
        false ->
            Counts
    end.

count({Kind, Answer}, Counts) ->
    maps:update_with({Kind, element(1, ask(Answer))}, fun(N) -> N + 1 end, 1, Counts).

requests(N) ->
    Opts = #{pool => calm},
    Calls = [{call, {ok, 2.0} = py:call(math, sqrt, [4], #{}, Opts)}],
    Others = [
        fun() -> {eval, py:eval("1", #{}, #{pool => stuck})} end,
        fun() -> {exec, py:exec("during = 1", Opts)} end,
        fun() -> {stream, py:stream(builtins, range, [3], #{}, Opts)} end,
        fun() -> {callback, py:eval("erlang.call('double', 2)", #{}, Opts)} end,
        fun() -> {cast, py:cast(builtins, len, [[]], #{}, Opts)} end,
        fun() -> {spawn_call, spawned(py:spawn_call(builtins, len, [[]], #{}, Opts))} end,
        fun() -> {start_pool, started(py:start_pool(other, #{workers => 1}))} end,
        fun() -> {start_worker, started(py:start_worker(#{}))} end
    ],
    [(lists:nth(1 + N rem length(Others), Others))() | Calls].

ask(ok) -> {ok};
ask({ok, _}) -> {ok};
ask({error, _} = Error) -> Error.

spawned(Ref) when is_reference(Ref) -> py:await(Ref, ?LONG);
spawned(Error) -> Error.

%% Where only what is known of processes is missing, they can be started.
started({ok, Pid}) ->
    _ = py:stop_pool(other),
    _ = unlink(Pid),
    py:stop_worker(Pid);
started(Error) ->
    Error.

use_up(descriptors) -> all(fun() -> file:open("/dev/null", [read, raw]) end);
use_up(ports) -> all(fun() -> {ok, open_port({spawn_driver, "ram_file_drv"}, [])} end);
use_up(processes) -> all(fun() -> {ok, spawn(fun() -> receive stop -> ok end end)} end);
use_up(proc) -> "" = os:cmd("mount -t tmpfs none /proc 2>&1").

all(Open) ->
    all(Open, []).

all(Open, Opened) ->
    try Open() of
        {ok, One} -> all(Open, [One | Opened]);
        {error, emfile} -> Opened
    catch
        error:system_limit -> Opened
    end.

give_back(descriptors, Files) -> [ok = file:close(File) || File <- Files];
give_back(ports, Ports) -> [true = port_close(Port) || Port <- Ports];
give_back(processes, Pids) -> [Pid ! stop || Pid <- Pids];
give_back(proc, _) -> "" = os:cmd("umount /proc 2>&1").

%% @doc Has values cross the limit of a heap, in each process of the library that decodes any.
-spec exceed(string(), string()) -> ok.
exceed(Python, Mark) ->
    load(),
    _ = erlang:system_flag(max_heap_size, #{size => 200000, kill => true, error_logger => false}),
    start(Python, Mark, #{}),
    Before = library(),
    Opts = #{pool => calm},
    Large = "list(range(300000))",
    {error, {stream_exit, killed}} = py:stream_eval(["[1, ", Large, ", 3]"], #{}, Opts),
    {ok, Ref} = py:stream_start(builtins, iter, [[1, 2]], Opts),
    [{ok, 1}, {ok, 2}, done] = [py:stream_next(Ref, ?LONG) || _ <- [1, 2, 3]],
    %% The caller itself has the limit, too.
    {error, killed} = dies(fun() -> py:eval(Large, #{}, Opts) end),
    Late = py:spawn_call(builtins, eval, [list_to_binary(Large)], #{}, Opts),
    {error, {worker_exit, killed}} = py:await(Late, ?LONG),
    %% A registered function that is killed is an exception in Python.
    ok = py:register_function(large, fun([N]) -> length(lists:seq(1, N)) end),
    {error, {_, Why}} = py:eval("erlang.call('large', 300000)", #{}, Opts),
    {match, _} = re:run(Why, "killed"),
    {ok, 2.0} = py:call(math, sqrt, [4], #{}, Opts),
    Before = library(),
    #{restarts := 0} = py:info(calm),
    test_leftovers:none(),
    ok.

dies(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({answered, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> {error, Reason}
    end.
