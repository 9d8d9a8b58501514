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
    states/1,
    what_is_held_open_says_it/1,
    a_name_with_blanks_and_parentheses/1,
    a_pipe_that_is_held_open/1,
    statuses/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    Everywhere = [no_process, statuses],
    case filelib:is_dir("/proc/self") of
        true ->
            [
                one_that_runs,
                one_that_has_ended,
                another_of_the_same_number,
                a_zombie,
                states,
                what_is_held_open_says_it,
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
    ?assertEqual(running, py_os:state(Process)),
    true = port_close(Port),
    %% The end of its input ends it.
    test_eventually:equal(gone, fun() -> py_os:state(Process) end).

-spec one_that_has_ended(ct_suite:ct_config()) -> ok.
one_that_has_ended(_Config) ->
    {Port, Process} = start("echo ready; read -r line; exit 3"),
    true = port_command(Port, <<"\n">>),
    receive
        {Port, {exit_status, 3}} -> ok
    end,
    test_eventually:equal(gone, fun() -> py_os:state(Process) end).

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
    Zombie = {process, list_to_integer(Child), list_to_binary(Started), none},
    ?assertEqual(running, py_os:state(Zombie)),
    true = port_command(Port, <<"\n">>),
    test_eventually:equal(gone, fun() -> py_os:state(Zombie) end),
    ?assert(filelib:is_dir("/proc/" ++ Child)),
    ok = test_os_process:kill(py_os:pid(Parent)),
    ok.

-spec no_process(ct_suite:ct_config()) -> ok.
no_process(_Config) ->
    ?assertEqual(undefined, py_os:pid(undefined)),
    ?assertEqual(gone, py_os:state(undefined)),
    ?assertEqual(undefined, py_os:hold_open(undefined, 0)),
    {Port, _} = start("echo ready; read -r line"),
    true = port_close(Port),
    ?assertEqual(undefined, py_os:of_port(Port)).

%% A process that got the number later is not taken for the one that had it.
-spec another_of_the_same_number(ct_suite:ct_config()) -> ok.
another_of_the_same_number(_Config) ->
    {_, Process} = start("echo ready; read -r line"),
    {process, Pid, Started, none} = Process,
    Earlier = {process, Pid, integer_to_binary(binary_to_integer(Started) - 1), none},
    ?assertEqual(gone, py_os:state(Earlier)).

-spec states(ct_suite:ct_config()) -> ok.
states(_Config) ->
    {_, Process} = start("echo ready; read -r line"),
    Number = integer_to_list(py_os:pid(Process)),
    try
        _ = os:cmd("kill -STOP " ++ Number),
        test_eventually:equal(stopped, fun() -> py_os:state(Process) end),
        _ = os:cmd("kill -CONT " ++ Number),
        test_eventually:equal(running, fun() -> py_os:state(Process) end)
    after
        %% One that is stopped would outlive the node, with the node's standard error open.
        ok = test_os_process:kill(Number)
    end,
    test_eventually:equal(gone, fun() -> py_os:state(Process) end).

%% What was opened while it ran says how it is, and so does what was not, of the same process.
-spec what_is_held_open_says_it(ct_suite:ct_config()) -> ok.
what_is_held_open_says_it(_Config) ->
    {_, Process} = start("echo ready; read -r line"),
    Opened = py_os:open(Process),
    ?assertNotEqual(Process, Opened),
    ?assertEqual(running, py_os:state(Opened)),
    ok = test_os_process:kill(py_os:pid(Process)),
    test_eventually:equal({gone, gone}, fun() -> {py_os:state(Opened), py_os:state(Process)} end),
    ?assertEqual(ok, py_os:close(Opened)),
    ?assertEqual(ok, py_os:close(Process)),
    %% One that had ended before.
    ?assertEqual(Process, py_os:open(Process)).

%% The kernel writes a command's name as it is in the middle of what is read.
-spec a_name_with_blanks_and_parentheses(ct_suite:ct_config()) -> ok.
a_name_with_blanks_and_parentheses(_Config) ->
    {_, Process} = start("printf '%s' 'a) S 1 (b' >/proc/self/comm; echo ready; read -r line"),
    ?assertEqual(running, py_os:state(Process)),
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
