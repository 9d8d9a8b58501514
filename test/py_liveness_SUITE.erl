%% @doc What the node concludes from the silence of a Python process. Programs of the
%% system stand for Python here, and a tick is a call.
-module(py_liveness_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    one_that_sends_is_quiet/1,
    silence_without_work_is_no_sign/1,
    one_that_is_deaf_is_not_ended/1,
    one_that_is_deaf_for_too_long/1,
    one_that_is_stopped/1,
    one_that_is_gone/1,
    a_surplus_must_be_found_twice/1,
    a_surplus_is_forgotten/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    case filelib:is_dir("/proc/self") of
        true -> [one_that_is_stopped | cases()];
        %% Elsewhere the system does not say what a process does, see py_os.
        false -> cases()
    end.

cases() ->
    [
        one_that_sends_is_quiet,
        silence_without_work_is_no_sign,
        one_that_is_deaf_is_not_ended,
        one_that_is_deaf_for_too_long,
        one_that_is_gone,
        a_surplus_must_be_found_twice,
        a_surplus_is_forgotten
    ].

%% A process that sends something between any two ticks is asked for its numbers, and is alive
%% whether or not it answers.
-spec one_that_sends_is_quiet(ct_suite:ct_config()) -> ok.
one_that_sends_is_quiet(_Config) ->
    {_, Process} = idle(),
    Tick = fun(_, L) ->
        {quiet, Next} = py_liveness:tick({1, 0}, py_liveness:received(L)),
        Next
    end,
    {ping, Asked} = py_liveness:tick({1, 0}, new(Process)),
    Unanswered = lists:foldl(Tick, Asked, lists:seq(1, 20)),
    ?assertNot(py_liveness:is_silent(Unanswered)),
    {{0, 0}, Answered} = py_liveness:pong({1, 0}, Unanswered),
    ?assertMatch({ping, _}, py_liveness:tick({1, 0}, py_liveness:received(Answered))),
    ok.

%% Without a request there is no ping, however long it is silent.
-spec silence_without_work_is_no_sign(ct_suite:ct_config()) -> ok.
silence_without_work_is_no_sign(_Config) ->
    {_, Process} = idle(),
    ?assertEqual(lists:duplicate(20, quiet), findings(20, {0, 0}, new(Process))).

%% With a request there is a ping in the first tick. One that says nothing then may run C code that
%% keeps the interpreter lock; the log says so once.
-spec one_that_is_deaf_is_not_ended(ct_suite:ct_config()) -> ok.
one_that_is_deaf_is_not_ended(_Config) ->
    {_, Process} = idle(),
    Expected = [ping] ++ quiet(5) ++ [deaf] ++ quiet(50),
    ?assertEqual(Expected, findings(57, {1, 1}, new(Process))),
    %% It is deaf again after it was not.
    Deaf = ticks(20, {1, 1}, new(Process)),
    ?assert(py_liveness:is_silent(Deaf)),
    ?assertNot(py_liveness:is_silent(py_liveness:received(Deaf))),
    ?assertEqual(quiet(6) ++ [deaf], findings(7, {1, 1}, py_liveness:received(Deaf))).

%% Whatever its process does, if the pool says so.
-spec one_that_is_deaf_for_too_long(ct_suite:ct_config()) -> ok.
one_that_is_deaf_for_too_long(_Config) ->
    {_, Process} = idle(),
    ?assertEqual([ping, unresponsive], findings(2, {1, 0}, py_liveness:new(Process, 1))),
    ?assertEqual([ping | quiet(3)] ++ [unresponsive], findings(5, {1, 0}, py_liveness:new(Process, 4))),
    ?assertEqual([ping | quiet(5)] ++ [deaf] ++ quiet(3) ++ [unresponsive], findings(11, {1, 0}, py_liveness:new(Process, 10))),
    %% A frame that comes late makes it begin anew.
    Silent = ticks(4, {1, 1}, py_liveness:new(Process, 4)),
    ?assertEqual(quiet(4) ++ [unresponsive], findings(5, {1, 1}, py_liveness:received(Silent))).

%% One that a signal has stopped does nothing any more, until another one.
-spec one_that_is_stopped(ct_suite:ct_config()) -> ok.
one_that_is_stopped(_Config) ->
    {_, Process} = idle(),
    Number = integer_to_list(py_os:pid(Process)),
    Stop = fun() ->
        _ = os:cmd("kill -STOP " ++ Number),
        test_eventually:equal(stopped, fun() -> py_os:state(Process) end)
    end,
    try
        Stop(),
        ?assertEqual([ping | quiet(5)] ++ [unresponsive], findings(7, {1, 0}, new(Process))),
        ?assertEqual(quiet(20), findings(20, {0, 0}, new(Process))),
        %% It counts from the last time that it ran.
        Stopped = ticks(6, {1, 0}, new(Process)),
        _ = os:cmd("kill -CONT " ++ Number),
        test_eventually:equal(running, fun() -> py_os:state(Process) end),
        {deaf, Ran} = py_liveness:tick({1, 0}, Stopped),
        Stop(),
        ?assertEqual(quiet(5) ++ [unresponsive], findings(6, {1, 0}, Ran))
    after
        %% One that is stopped would outlive the node, with the node's standard error open.
        kill(Process)
    end.

%% One that is gone is found at the second tick: in the first it may have sent something.
-spec one_that_is_gone(ct_suite:ct_config()) -> ok.
one_that_is_gone(_Config) ->
    {_, Process} = idle(),
    kill(Process),
    test_eventually:equal(gone, fun() -> py_os:state(Process) end),
    ?assertEqual([quiet, exit_unknown], findings(2, {0, 0}, new(Process))),
    ?assertEqual([ping, exit_unknown], findings(2, {3, 1}, new(undefined))).

%% Requests that Python does not know of are subtracted when a second answer says the same:
%% at the first one a request may be on its way. That is so for one that is busy, too.
-spec a_surplus_must_be_found_twice(ct_suite:ct_config()) -> ok.
a_surplus_must_be_found_twice(_Config) ->
    {_, Process} = idle(),
    [
        begin
            {ping, First} = py_liveness:tick({3, 2}, new(Process)),
            {{0, 0}, Once} = py_liveness:pong({2, 1}, First),
            {ping, Again} = py_liveness:tick({3, 2}, Frame(Once)),
            {{1, 1}, Done} = py_liveness:pong({2, 1}, Frame(Again)),
            %% It is subtracted once.
            {ping, Later} = py_liveness:tick({2, 1}, Frame(Done)),
            ?assertMatch({{0, 0}, _}, py_liveness:pong({2, 1}, Later))
        end
     || Frame <- [fun py_liveness:received/1, fun(L) -> L end]
    ],
    ok.

%% What has ended since the ping is no surplus, and what has come since hides some. The smaller of two
%% in a row counts.
-spec a_surplus_is_forgotten(ct_suite:ct_config()) -> ok.
a_surplus_is_forgotten(_Config) ->
    {_, Process} = idle(),
    {ping, First} = py_liveness:tick({9, 4}, new(Process)),
    {{0, 0}, Once} = py_liveness:pong({6, 4}, First),
    Second = fun(Ended, Known) ->
        {ping, L} = py_liveness:tick({9, 4}, Once),
        {Lost, _} = py_liveness:pong(Known, py_liveness:ended(Ended, L)),
        Lost
    end,
    ?assertEqual({0, 0}, Second({3, 0}, {6, 4})),
    ?assertEqual({1, 0}, Second({2, 2}, {6, 2})),
    ?assertEqual({3, 0}, Second({0, 0}, {5, 0})),
    ?assertEqual({0, 0}, Second({0, 0}, {20, 20})),
    {ping, Full} = py_liveness:tick({9, 4}, Once),
    ?assertMatch({{0, 0}, _}, py_liveness:pong({0, 0}, py_liveness:uncertain(Full))),
    ?assertMatch({{0, 0}, _}, py_liveness:pong({0, 0}, Once)).

%%% What the cases share.

new(Process) -> py_liveness:new(Process, infinity).

quiet(N) -> lists:duplicate(N, quiet).

kill(Process) ->
    _ = os:cmd("kill -9 " ++ integer_to_list(py_os:pid(Process))),
    ok.

findings(0, _Load, _Liveness) ->
    [];
findings(N, Load, Liveness) ->
    {Finding, Next} = py_liveness:tick(Load, Liveness),
    [Finding | findings(N - 1, Load, Next)].

ticks(0, _Load, Liveness) ->
    Liveness;
ticks(N, Load, Liveness) ->
    {_, Next} = py_liveness:tick(Load, Liveness),
    ticks(N - 1, Load, Next).

%% A process that waits for its input. It ends with the case's process, which owns the port.
idle() ->
    run("echo ready; read -r line").

run(Script) ->
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Script]}, binary]),
    Process = py_os:of_port(Port),
    case Script of
        "echo ready" ++ _ ->
            receive
                {Port, {data, <<"ready\n">>}} -> ok
            end;
        _ ->
            ok
    end,
    {Port, Process}.
