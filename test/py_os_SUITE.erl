%% @doc The operating-system process behind a port.
-module(py_os_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    one_that_runs/1,
    one_that_has_ended/1,
    no_process/1,
    another_of_the_same_number/1,
    a_zombie/1,
    activity/1,
    a_name_with_blanks_and_parentheses/1,
    a_pipe_that_is_held_open/1,
    kill_many/1,
    statuses/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    Everywhere = [one_that_runs, one_that_has_ended, no_process, kill_many, statuses],
    case filelib:is_dir("/proc/self") of
        true ->
            [
                another_of_the_same_number,
                a_zombie,
                activity,
                a_name_with_blanks_and_parentheses,
                a_pipe_that_is_held_open
                | Everywhere
            ];
        %% What the others show is known on Linux alone.
        false ->
            Everywhere
    end.

-spec one_that_runs(ct_suite:ct_config()) -> ok.
one_that_runs(_Config) ->
    {Port, Process} = start("echo ready; read -r line"),
    ?assertEqual({os_pid, py_os:pid(Process)}, erlang:port_info(Port, os_pid)),
    ?assert(py_os:is_alive(Process)),
    true = port_close(Port),
    %% The end of its input ends it.
    test_eventually:equal(false, fun() -> py_os:is_alive(Process) end).

-spec one_that_has_ended(ct_suite:ct_config()) -> ok.
one_that_has_ended(_Config) ->
    {Port, Process} = start("echo ready; read -r line; exit 3"),
    true = port_command(Port, <<"\n">>),
    receive
        {Port, {exit_status, 3}} -> ok
    end,
    test_eventually:equal(false, fun() -> py_os:is_alive(Process) end),
    ?assertEqual(gone, py_os:activity(Process)).

%% One that nobody has waited for has a number and no life.
-spec a_zombie(ct_suite:ct_config()) -> ok.
a_zombie(_Config) ->
    %% The shell that started it becomes another program, which does not know of it.
    Script = "exec 3<&0; head -n 1 <&3 >/dev/null & echo $!; exec sleep 60",
    {Port, Parent} = start(Script, fun(Line) -> put(child, string:trim(Line)) end),
    Comm = "/proc/" ++ integer_to_list(py_os:pid(Parent)) ++ "/comm",
    test_eventually:equal({ok, <<"sleep\n">>}, fun() -> file:read_file(Comm) end),
    Child = get(child),
    Started = string:trim(os:cmd("cut -d' ' -f22 /proc/" ++ Child ++ "/stat")),
    Zombie = {process, list_to_integer(Child), list_to_binary(Started)},
    ?assert(py_os:is_alive(Zombie)),
    true = port_command(Port, <<"\n">>),
    test_eventually:equal(false, fun() -> py_os:is_alive(Zombie) end),
    ?assert(filelib:is_dir("/proc/" ++ Child)),
    ?assertEqual(gone, py_os:activity(Zombie)),
    py_os:kill([Parent]).

-spec no_process(ct_suite:ct_config()) -> ok.
no_process(_Config) ->
    ?assertEqual(undefined, py_os:pid(undefined)),
    ?assertNot(py_os:is_alive(undefined)),
    ?assertEqual(gone, py_os:activity(undefined)),
    ?assertEqual(undefined, py_os:hold_open(undefined, 0)),
    {Port, _} = start("echo ready; read -r line"),
    true = port_close(Port),
    ?assertEqual(undefined, py_os:of_port(Port)),
    ?assertEqual(ok, py_os:kill([])).

%% A process that got the number later is not taken for the one that had it.
-spec another_of_the_same_number(ct_suite:ct_config()) -> ok.
another_of_the_same_number(_Config) ->
    {_, Process} = start("echo ready; read -r line"),
    {process, Pid, Started} = Process,
    Earlier = {process, Pid, integer_to_binary(binary_to_integer(Started) - 1)},
    ?assertNot(py_os:is_alive(Earlier)),
    ?assertEqual(gone, py_os:activity(Earlier)).

%% The processor time of one that waits stays, and that of one that computes grows.
-spec activity(ct_suite:ct_config()) -> ok.
activity(_Config) ->
    {Port, Process} = start("echo ready; read -r line; while :; do :; done"),
    Idle = py_os:activity(Process),
    ?assert(is_integer(Idle)),
    ?assertEqual(Idle, py_os:activity(Process)),
    true = port_command(Port, <<"\n">>),
    test_eventually:true(fun() -> py_os:activity(Process) > Idle end),
    Number = integer_to_list(py_os:pid(Process)),
    _ = os:cmd("kill -STOP " ++ Number),
    test_eventually:equal(stopped, fun() -> py_os:activity(Process) end),
    _ = os:cmd("kill -CONT " ++ Number),
    test_eventually:true(fun() -> is_integer(py_os:activity(Process)) end),
    ok = py_os:kill([Process]),
    test_eventually:equal(gone, fun() -> py_os:activity(Process) end).

%% The kernel writes a command's name as it is in the middle of what is read.
-spec a_name_with_blanks_and_parentheses(ct_suite:ct_config()) -> ok.
a_name_with_blanks_and_parentheses(_Config) ->
    {_, Process} = start("printf '%s' 'a) S 1 (b' >/proc/self/comm; echo ready; read -r line"),
    ?assert(py_os:is_alive(Process)),
    ?assert(is_integer(py_os:activity(Process))),
    {ok, Comm} = file:read_file("/proc/" ++ integer_to_list(py_os:pid(Process)) ++ "/stat"),
    ct:log("~ts", [Comm]).

%% While its pipe is held open, writing to one that has closed its input does not close the
%% port, and its exit status arrives.
-spec a_pipe_that_is_held_open(ct_suite:ct_config()) -> ok.
a_pipe_that_is_held_open(_Config) ->
    {Port, Process} = start("echo ready; read -r line; exec 0<&-; echo closed; sleep 0.1; exit 5"),
    Held = py_os:hold_open(Process, 0),
    ?assertNotEqual(undefined, Held),
    true = port_command(Port, <<"\n">>),
    receive
        {Port, {data, <<"closed\n">>}} -> ok
    end,
    true = port_command(Port, <<"to nothing">>),
    receive
        {Port, {exit_status, Status}} -> ?assertEqual(5, Status);
        {'EXIT', Port, Reason} -> error({closed, Reason})
    end,
    ok = file:close(Held),
    ?assertEqual(undefined, py_os:hold_open(Process, 0)).

-spec kill_many(ct_suite:ct_config()) -> ok.
kill_many(_Config) ->
    %% None of them ends by a signal that it can ignore.
    Started = [start("trap '' TERM INT HUP; echo ready; read -r line; sleep 60") || _ <- lists:seq(1, 3)],
    ok = py_os:kill([Process || {_, Process} <- Started]),
    [
        receive
            {Port, {exit_status, Status}} -> ?assertEqual({signal, 9}, py_os:status(Status))
        end
     || {Port, _} <- Started
    ],
    [?assertNot(py_os:is_alive(Process)) || {_, Process} <- Started],
    ok.

-spec statuses(ct_suite:ct_config()) -> ok.
statuses(_Config) ->
    Signals = [{129, {signal, 1}}, {137, {signal, 9}}, {192, {signal, 64}}],
    Expected = [{Code, Code} || Code <- [0, 1, 128, 193, 255]] ++ Signals,
    ?assertEqual([Status || {_, Status} <- Expected], [py_os:status(Code) || {Code, _} <- Expected]).

%%% What the cases share.

start(Script) ->
    start(Script, fun(Line) -> ?assertEqual("ready\n", Line) end).

%% A shell that has printed its first line. It ends with the case's process, which owns the port.
start(Script, Check) ->
    process_flag(trap_exit, true),
    Options = [{args, ["-c", Script]}, binary, exit_status],
    Port = open_port({spawn_executable, "/bin/sh"}, Options),
    Process = py_os:of_port(Port),
    receive
        {Port, {data, Line}} -> Check(binary_to_list(Line))
    end,
    {Port, Process}.
