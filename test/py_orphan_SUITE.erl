%% @doc However a node or a part of it ends, a second later none of its Python processes is
%% left, not even one that spins in C code with the interpreter lock held.
%%
%% Each case does its deed a few times, or as often as the OS variable PY_ORPHAN_TIMES says.
-module(py_orphan_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([
    init_stop/1,
    init_stop_closes_generators/1,
    halt/1,
    the_vm_is_killed/1,
    the_vm_is_killed_while_python_starts/1,
    the_application_is_stopped/1,
    a_worker_process_is_killed/1,
    a_manager_is_killed/1,
    a_terminal_s_interrupt_spares_workers/1
]).
-export([node_main/1]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 60}}].

-spec all() -> [atom()].
all() ->
    [
        init_stop,
        init_stop_closes_generators,
        halt,
        the_vm_is_killed,
        the_vm_is_killed_while_python_starts,
        the_application_is_stopped,
        a_worker_process_is_killed,
        a_manager_is_killed,
        a_terminal_s_interrupt_spares_workers
    ].

-spec groups() -> [].
groups() ->
    [].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    case os:type() of
        {unix, linux} -> Config;
        _ -> {skip, "what holds the interpreter lock is ended on Linux only"}
    end.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok.

%%% Cases. Each runs nodes of their own, told what to do on their standard input.

-spec init_stop(ct_suite:ct_config()) -> term().
init_stop(Config) ->
    %% A node that stops in order leaves nothing.
    with_nodes(Config, fun(Node) -> tell(Node, "init:stop()") end).

-spec init_stop_closes_generators(ct_suite:ct_config()) -> term().
init_stop_closes_generators(Config) ->
    %% And its generators have run their finally blocks.
    Closed = filename:join(?config(priv_dir, Config), "closed"),
    times(fun(_) ->
        _ = file:delete(Closed),
        Node = start_node(Config, "idle", Closed),
        tell(Node, "init:stop()"),
        ended(Node),
        ?assertEqual({ok, <<"closed">>}, file:read_file(Closed))
    end).

-spec halt(ct_suite:ct_config()) -> term().
halt(Config) ->
    %% A node that halts on the spot leaves nothing.
    with_nodes(Config, fun(Node) -> tell(Node, "erlang:halt(1, [{flush, false}])") end).

-spec the_vm_is_killed(ct_suite:ct_config()) -> term().
the_vm_is_killed(Config) ->
    %% Nor does one that is killed.
    with_nodes(Config, fun(#{vm := Vm}) -> kill(Vm) end).

-spec the_vm_is_killed_while_python_starts(ct_suite:ct_config()) -> term().
the_vm_is_killed_while_python_starts(Config) ->
    %% Nor one that is killed while its workers start, at whatever moment.
    times(fun(N) ->
        Port = open_node(Config, "load", "-"),
        {os_pid, Vm} = erlang:port_info(Port, os_pid),
        timer:sleep(200 + 37 * N),
        Pythons = descendants(Vm),
        kill(Vm),
        gone([Vm | Pythons])
    end).

-spec the_application_is_stopped(ct_suite:ct_config()) -> term().
the_application_is_stopped(Config) ->
    %% When the application has stopped, at full load, no Python process is left; the node
    %% lives.
    with_nodes(Config, fun(Node = #{pythons := Pythons}) ->
        tell(Node, "application:stop(erlang_python)"),
        answer(Node, "done"),
        ?assertEqual([], alive(Pythons)),
        tell(Node, "init:stop()")
    end).

-spec a_worker_process_is_killed(ct_suite:ct_config()) -> term().
a_worker_process_is_killed(Config) ->
    %% The Python processes of worker processes that are killed are gone a second later.
    part_is_killed(
        "[exit(W, kill) || #{pid := W} <- maps:get(workers, py:info(default))]", Config
    ).

-spec a_manager_is_killed(ct_suite:ct_config()) -> term().
a_manager_is_killed(Config) ->
    %% So are those of a pool whose manager is killed.
    part_is_killed("[exit(M, kill) || {_, M, _, _} <- supervisor:which_children(py_pool_sup)]", Config).

part_is_killed(Code, Config) ->
    Node = start_node(Config, "load", "-"),
    Last = lists:foldl(
        fun(_, Pythons) ->
            tell(Node, Code),
            answer(Node, "done"),
            gone(Pythons),
            tell(Node, "load"),
            pythons(Node)
        end,
        maps:get(pythons, Node),
        lists:seq(1, times())
    ),
    tell(Node, "init:stop()"),
    ended(Node#{pythons := Last}).

-spec a_terminal_s_interrupt_spares_workers(ct_suite:ct_config()) -> term().
a_terminal_s_interrupt_spares_workers(Config) ->
    %% Ctrl-C in the node's terminal brings up its break menu; the workers live, and so does
    %% the node when it is told to go on.
    Script = filename:join(?config(data_dir, Config), "terminal.py"),
    {Status, Output} = program:run(
        os:getenv("ERLANG_PYTHON", "python3"),
        [Script | ["erl" | code_path() ++ ["-eval", "py_orphan_SUITE:node_main([\"idle\",\"-\",\"shell\"])"]]],
        #{}
    ),
    ct:pal("~ts", [Output]),
    ?assertEqual(0, Status).

%%% What a node of the test's own does.

%% @doc Starts a pool, loads it, says which processes it has, and does what it is told; or
%% leaves that to the shell.
-spec node_main([string()]) -> ok.
node_main([Load, File, "shell"]) ->
    begin_work(Load, File),
    say_pythons();
node_main([Load, File]) ->
    begin_work(Load, File),
    node_loop(Load, File).

begin_work(Load, File) ->
    Path = filename:join(filename:dirname(code:which(?MODULE)), "py_orphan_SUITE_data"),
    ok = application:set_env(erlang_python, pools, #{
        default => #{workers => 3, python_path => [Path], preload => [load]}
    }),
    {ok, _} = application:ensure_all_started(erlang_python),
    load(Load, File).

node_loop(Load, File) ->
    say_pythons(),
    told(Load, File).

say_pythons() ->
    Pythons = [py_os:pid(Process) || {_, Process} <- ets:tab2list(py_processes)],
    io:format("pythons ~w.~n", [Pythons]).

told(Load, File) ->
    case io:get_line("") of
        "load\n" ->
            %% Those that were killed are being replaced.
            wait_for_workers(),
            load(Load, File),
            node_loop(Load, File);
        Line when is_list(Line) ->
            {ok, Tokens, _} = erl_scan:string(string:trim(Line) ++ "."),
            {ok, Expressions} = erl_parse:parse_exprs(Tokens),
            _ = erl_eval:exprs(Expressions, []),
            io:format("done~n"),
            told(Load, File);
        eof ->
            timer:sleep(infinity)
    end.

wait_for_workers() ->
    case py:info(default) of
        #{workers := [_, _, _]} -> ok;
        _ ->
            timer:sleep(20),
            wait_for_workers()
    end.

load("idle", File) ->
    {ok, Ref} = py:stream_start(load, idle, [unicode:characters_to_binary(File)]),
    {ok, _} = py:stream_next(Ref, ?LONG),
    ok;
load("load", _File) ->
    Sink = spawn(fun sink/0),
    %% Streams at full speed, sleeping owners, code stuck in Python, a worker that holds the
    %% interpreter lock.
    [{ok, _} = py:stream_start(load, numbers, [], #{owner => Sink}) || _ <- lists:seq(1, 6)],
    [{ok, _} = py:stream_start(load, async_numbers, [], #{owner => Sink}) || _ <- lists:seq(1, 6)],
    [{ok, _} = py:stream_start(load, numbers, []) || _ <- lists:seq(1, 3)],
    [spawn(fun() -> py:call(load, spin, []) end) || _ <- lists:seq(1, 3)],
    {ok, Ref} = py:stream_start(load, hold_the_lock, []),
    {ok, _} = py:stream_next(Ref, ?LONG),
    ok.

sink() ->
    receive
        _ -> sink()
    end.

%%% Helpers.

times() ->
    list_to_integer(os:getenv("PY_ORPHAN_TIMES", "3")).

times(Fun) ->
    lists:foreach(Fun, lists:seq(1, times())).

with_nodes(Config, End) ->
    times(fun(_) ->
        Node = start_node(Config, "load", "-"),
        End(Node),
        ended(Node)
    end).

start_node(Config, Load, File) ->
    Port = open_node(Config, Load, File),
    {os_pid, Vm} = erlang:port_info(Port, os_pid),
    Node = #{port => Port, vm => Vm},
    Node#{pythons => pythons(Node)}.

open_node(_Config, Load, File) ->
    Eval = lists:flatten(io_lib:format("py_orphan_SUITE:node_main([~p,~p])", [Load, File])),
    Args = ["-noshell" | code_path()] ++ ["-eval", Eval],
    Erl = os:find_executable("erl"),
    open_port({spawn_executable, Erl}, [{args, Args}, {line, 10000}, exit_status, binary]).

code_path() ->
    lists:append([["-pa", Dir] || Dir <- [filename:dirname(code:which(M)) || M <- [py, ?MODULE]]]).

pythons(Node) ->
    <<"pythons ", List/binary>> = answer(Node, "pythons "),
    {ok, Tokens, _} = erl_scan:string(binary_to_list(List)),
    {ok, Pythons} = erl_parse:parse_term(Tokens),
    ?assertEqual(3, length(Pythons)),
    ?assertEqual(Pythons, alive(Pythons)),
    Pythons.

tell(#{port := Port}, Code) ->
    true = port_command(Port, [Code, $\n]).

answer(Node = #{port := Port}, Prefix) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case string:prefix(Line, Prefix) of
                nomatch -> answer(Node, Prefix);
                _ -> Line
            end;
        {Port, {exit_status, Status}} ->
            error({node_ended, Status})
    after 20000 -> error({no_answer, Prefix})
    end.

ended(#{port := Port, vm := Vm, pythons := Pythons}) ->
    receive
        {Port, {exit_status, _}} -> ok
    after 20000 -> error(node_does_not_end)
    end,
    gone([Vm | Pythons]).

%% None of them is left after a second, and the half of one for this machine's other work.
gone(Pids) ->
    gone(Pids, erlang:monotonic_time(millisecond) + 1500).

gone(Pids, Deadline) ->
    case alive(Pids) of
        [] ->
            ok;
        Left ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    [kill(Pid) || Pid <- Left],
                    error({left, Left});
                false ->
                    timer:sleep(10),
                    gone(Left, Deadline)
            end
    end.

alive(Pids) ->
    [Pid || Pid <- Pids, is_alive(Pid)].

%% A process that nobody has waited for yet is none any more.
is_alive(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} ->
            [_, <<State, _/binary>>] = string:split(Stat, <<") ">>, trailing),
            State =/= $Z andalso State =/= $X;
        {error, _} ->
            false
    end.

descendants(Pid) ->
    Children = string:lexemes(os:cmd("ps -o pid= --ppid " ++ integer_to_list(Pid)), " \n"),
    Pids = [list_to_integer(Child) || Child <- Children],
    Pids ++ lists:append([descendants(Child) || Child <- Pids]).

kill(Pid) ->
    _ = os:cmd("kill -9 " ++ integer_to_list(Pid) ++ " 2>/dev/null"),
    ok.
