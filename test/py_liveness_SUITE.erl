%% @doc What the node concludes from the silence of a Python process. Programs of the
%% system stand for Python here, and a tick is a call.
-module(py_liveness_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    one_that_sends_is_quiet/1,
    silence_without_work_is_no_sign/1,
    silence_with_work_ends_after_six_ticks/1,
    processor_time_is_a_sign_of_life/1,
    one_that_is_stopped_is_not_ended/1,
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
        true -> [silence_with_work_ends_after_six_ticks, one_that_is_stopped_is_not_ended | cases()];
        %% Elsewhere the system does not say what a process does, see py_os.
        false -> cases()
    end.

cases() ->
    [
        one_that_sends_is_quiet,
        silence_without_work_is_no_sign,
        processor_time_is_a_sign_of_life,
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
    {ping, Asked} = py_liveness:tick({1, 0}, py_liveness:new(Process)),
    Unanswered = lists:foldl(Tick, Asked, lists:seq(1, 20)),
    ?assertNot(py_liveness:is_silent(Unanswered)),
    {{0, 0}, Answered} = py_liveness:pong({1, 0}, Unanswered),
    ?assertMatch({ping, _}, py_liveness:tick({1, 0}, py_liveness:received(Answered))),
    ok.

%% Without a request there is no ping, however long it is silent.
-spec silence_without_work_is_no_sign(ct_suite:ct_config()) -> ok.
silence_without_work_is_no_sign(_Config) ->
    {_, Process} = idle(),
    ?assertEqual(lists:duplicate(20, quiet), findings(20, {0, 0}, py_liveness:new(Process))).

%% With a request there is a ping in the first tick, and six silent ticks behind it, after one that
%% shows what it does, end it.
-spec silence_with_work_ends_after_six_ticks(ct_suite:ct_config()) -> ok.
silence_with_work_ends_after_six_ticks(_Config) ->
    {_, Process} = idle(),
    Quiet = lists:duplicate(6, quiet),
    ?assertEqual([ping] ++ Quiet ++ [unresponsive], findings(8, {1, 1}, py_liveness:new(Process))),
    %% A frame that comes late makes it begin anew.
    Silent = ticks(7, {1, 1}, py_liveness:new(Process)),
    ?assertEqual(Quiet ++ [unresponsive], findings(7, {1, 1}, py_liveness:received(Silent))).

%% A process that uses processor time is not ended, though it neither sends nor answers.
-spec processor_time_is_a_sign_of_life(ct_suite:ct_config()) -> ok.
processor_time_is_a_sign_of_life(_Config) ->
    {Port, Process} = run(
        "while read -r line; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; done"
    ),
    Pinged = ticks(2, {1, 0}, py_liveness:new(Process)),
    Work = fun(_, L) ->
        true = port_command(Port, <<"\n">>),
        receive
            {Port, {data, <<"done\n">>}} -> ok
        end,
        {quiet, Next} = py_liveness:tick({1, 0}, L),
        Next
    end,
    _ = lists:foldl(Work, Pinged, lists:seq(1, 10)),
    ok.

%% Nor one that a signal has stopped, as a debugger does.
-spec one_that_is_stopped_is_not_ended(ct_suite:ct_config()) -> ok.
one_that_is_stopped_is_not_ended(_Config) ->
    {_, Process} = idle(),
    _ = os:cmd("kill -STOP " ++ integer_to_list(py_os:pid(Process))),
    test_eventually:equal(stopped, fun() -> py_os:activity(Process) end),
    ?assertEqual(
        [ping | lists:duplicate(21, quiet)],
        findings(22, {1, 0}, py_liveness:new(Process))
    ),
    py_os:kill([Process]).

%% One that is gone is found at the second tick: in the first it may have sent something.
-spec one_that_is_gone(ct_suite:ct_config()) -> ok.
one_that_is_gone(_Config) ->
    {_, Process} = idle(),
    py_os:kill([Process]),
    test_eventually:equal(false, fun() -> py_os:is_alive(Process) end),
    ?assertEqual([quiet, exit_unknown], findings(2, {0, 0}, py_liveness:new(Process))),
    ?assertEqual([ping, exit_unknown], findings(2, {3, 1}, py_liveness:new(undefined))).

%% Requests that Python does not know of are subtracted when a second answer says the same:
%% at the first one a request may be on its way. That is so for one that is busy, too.
-spec a_surplus_must_be_found_twice(ct_suite:ct_config()) -> ok.
a_surplus_must_be_found_twice(_Config) ->
    {_, Process} = idle(),
    [
        begin
            {ping, First} = py_liveness:tick({3, 2}, py_liveness:new(Process)),
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
    {ping, First} = py_liveness:tick({9, 4}, py_liveness:new(Process)),
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
