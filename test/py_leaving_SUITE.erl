%% @doc A worker that is asked to leave does so as Python leaves, within its time, and takes what
%% it has started along.
-module(py_leaving_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    files_are_written/1,
    hooks_have_their_time/1,
    threads_are_joined/1,
    processes_of_an_executor_end/1,
    one_that_stays_is_killed/1,
    all_leave_side_by_side/1,
    a_signal_lets_calls_end/1,
    a_signal_closes_generators/1,
    another_replaces_it/1,
    children_end_with_their_worker/1,
    children_are_left/1,
    a_forked_child_is_a_process_of_its_own/1,
    a_forked_child_that_comes_back_ends/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        files_are_written,
        hooks_have_their_time,
        threads_are_joined,
        processes_of_an_executor_end,
        one_that_stays_is_killed,
        all_leave_side_by_side,
        a_signal_lets_calls_end,
        a_signal_closes_generators,
        another_replaces_it,
        children_end_with_their_worker,
        children_are_left,
        a_forked_child_is_a_process_of_its_own,
        a_forked_child_that_comes_back_ends
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = py:stop_pool(leaving),
    ok.

%% A file that is still open has what was written to it, and a temporary one is gone.
-spec files_are_written(ct_suite:ct_config()) -> ok.
files_are_written(Config) ->
    File = path(files, Config),
    start(#{}, Config),
    {ok, Temporary} = call(write_and_keep, [File]),
    ?assert(filelib:is_file(Temporary)),
    ok = py:stop_pool(leaving),
    ?assertEqual({ok, <<"important\n">>}, file:read_file(File)),
    ?assertNot(filelib:is_file(Temporary)).

-spec hooks_have_their_time(ct_suite:ct_config()) -> ok.
hooks_have_their_time(Config) ->
    File = path(hooks, Config),
    start(#{}, Config),
    {ok, none} = call(write_at_exit, [File, 0.7]),
    ok = py:stop_pool(leaving),
    ?assertEqual({ok, <<"flushed">>}, file:read_file(File)).

-spec threads_are_joined(ct_suite:ct_config()) -> ok.
threads_are_joined(Config) ->
    File = path(threads, Config),
    {ok, Worker} = py:start_worker(#{python_path => [?config(data_dir, Config)]}),
    {ok, none} = py:call(leaver, in_a_thread, [File], #{}, #{pool => Worker}),
    ok = py:stop_worker(Worker),
    ?assertEqual({ok, <<"joined">>}, file:read_file(File)).

-spec processes_of_an_executor_end(ct_suite:ct_config()) -> ok.
processes_of_an_executor_end(Config) ->
    start(#{children => leave}, Config),
    {ok, Pids = [_ | _]} = call(processes_of_an_executor, []),
    ok = py:stop_pool(leaving),
    ?assertEqual([], [Pid || Pid <- Pids, test_os_process:is_running(Pid)]).

%% When its time is over it is killed, and `stop_pool' returns.
-spec one_that_stays_is_killed(ct_suite:ct_config()) -> ok.
one_that_stays_is_killed(Config) ->
    start(#{stop_timeout => 300}, Config),
    {ok, Pid} = call(os, getpid, []),
    {ok, none} = call(stay_at_exit, []),
    ok = py:stop_pool(leaving),
    ?assertNot(test_os_process:is_running(Pid)).

%% The application's stop waits for all at once.
-spec all_leave_side_by_side(ct_suite:ct_config()) -> ok.
all_leave_side_by_side(Config) ->
    Files = [path("side" ++ integer_to_list(N), Config) || N <- lists:seq(1, 4)],
    Pools = [list_to_atom("leaving" ++ integer_to_list(N)) || N <- lists:seq(1, 4)],
    Begin = erlang:monotonic_time(millisecond),
    [
        begin
            {ok, _} = py:start_pool(Pool, opts(#{}, Config)),
            {ok, none} = py:call(leaver, write_at_exit, [File, 2], #{}, #{pool => Pool})
        end
     || {Pool, File} <- lists:zip(Pools, Files)
    ],
    Started = erlang:monotonic_time(millisecond),
    ok = application:stop(erlang_python),
    Stopped = erlang:monotonic_time(millisecond),
    ct:pal("started in ~p ms, stopped in ~p ms", [Started - Begin, Stopped - Started]),
    [?assertEqual({ok, <<"flushed">>}, file:read_file(File)) || File <- Files],
    {ok, _} = application:ensure_all_started(erlang_python),
    %% One after another they would take 8 s.
    ?assert(Stopped - Started < 7000).

-spec a_signal_lets_calls_end(ct_suite:ct_config()) -> ok.
a_signal_lets_calls_end(Config) ->
    File = path(saved, Config),
    start(#{}, Config),
    {ok, Pid} = call(os, getpid, []),
    Call = py:spawn_call(leaver, save, [File, 0.5], #{}, #{pool => leaving}),
    test_eventually:true(fun() -> calls() =:= 1 end),
    terminate(Pid),
    ?assertEqual({ok, <<"saved">>}, py:await(Call, ?LONG)),
    ?assertEqual({ok, <<"finally">>}, file:read_file(File)),
    test_eventually:true(fun() -> not test_os_process:is_running(Pid) end).

-spec a_signal_closes_generators(ct_suite:ct_config()) -> ok.
a_signal_closes_generators(Config) ->
    File = path(closed, Config),
    start(#{}, Config),
    {ok, Pid} = call(os, getpid, []),
    {ok, Ref} = py:stream_start(leaver, forever, [File], #{pool => leaving}),
    {ok, 1} = py:stream_next(Ref, ?LONG),
    terminate(Pid),
    ?assertEqual({error, {worker_exit, {signal, 15}}}, last(Ref)),
    ?assertEqual({ok, <<"closed">>}, file:read_file(File)).

%% Requests go to the new worker while the old one ends what it runs.
-spec another_replaces_it(ct_suite:ct_config()) -> ok.
another_replaces_it(Config) ->
    start(#{}, Config),
    {ok, Pid} = call(os, getpid, []),
    Call = py:spawn_call(time, sleep, [1.5], #{}, #{pool => leaving}),
    test_eventually:true(fun() -> calls() =:= 1 end),
    terminate(Pid),
    test_eventually:true(fun() ->
        case call(os, getpid, []) of
            {ok, Other} -> Other =/= Pid;
            {error, _} -> false
        end
    end),
    ?assertEqual({ok, none}, py:await(Call, ?LONG)),
    #{restarts := Restarts} = py:info(leaving),
    ?assertEqual(0, Restarts).

%% However the worker ended. What made a session of its own stays.
-spec children_end_with_their_worker(ct_suite:ct_config()) -> ok.
children_end_with_their_worker(Config) ->
    Ends = [fun(_) -> py:stop_pool(leaving) end, fun test_os_process:kill/1],
    [
        begin
            start(#{}, Config),
            {ok, Pid} = call(os, getpid, []),
            {ok, Child} = call(child, [false]),
            {ok, Forked} = call(forked_child, []),
            {ok, Own} = call(child, [true]),
            _ = End(Pid),
            test_eventually:true(fun() -> not test_os_process:is_running(Child) andalso not test_os_process:is_running(Forked) end),
            ?assert(test_os_process:is_running(Own)),
            test_os_process:kill(Own),
            _ = py:stop_pool(leaving)
        end
     || End <- Ends
    ],
    ok.

-spec children_are_left(ct_suite:ct_config()) -> ok.
children_are_left(Config) ->
    start(#{children => leave}, Config),
    {ok, Child} = call(child, [false]),
    {ok, Forked} = call(forked_child, []),
    ok = py:stop_pool(leaving),
    ?assert(test_os_process:is_running(Child)),
    ?assert(test_os_process:is_running(Forked)),
    test_os_process:kill(Child),
    test_os_process:kill(Forked).

-spec a_forked_child_is_a_process_of_its_own(ct_suite:ct_config()) -> ok.
a_forked_child_is_a_process_of_its_own(Config) ->
    start(#{}, Config),
    ?assertEqual({ok, 3}, call(forked_child_that_exits, [3])),
    %% SIGTERM ends it as any process, as multiprocessing's terminate() expects.
    ?assertEqual({ok, -15}, call(terminate_a_forked_child, [])).

%% It ends at once, and writes into no file that it has opened.
-spec a_forked_child_that_comes_back_ends(ct_suite:ct_config()) -> ok.
a_forked_child_that_comes_back_ends(Config) ->
    Path = path(forked, Config),
    start(#{}, Config),
    {ok, Values} = py:stream(leaver, forks_and_goes_on, [Path], #{}, #{pool => leaving}),
    ?assertEqual([<<"before">>] ++ lists:seq(0, 9999) ++ [0], Values),
    Files = filelib:wildcard(binary_to_list(Path) ++ "*"),
    ?assertEqual(8, length(Files)),
    ?assertEqual([], [File || File <- Files, filelib:file_size(File) > 0]).

%%% What the cases share.

start(Opts, Config) ->
    {ok, _} = py:start_pool(leaving, opts(Opts, Config)),
    ok.

opts(Opts, Config) ->
    maps:merge(#{workers => 1, python_path => [?config(data_dir, Config)]}, Opts).

call(F, Args) ->
    call(leaver, F, Args).

call(M, F, Args) ->
    py:call(M, F, Args, #{}, #{pool => leaving}).

calls() ->
    #{workers := Workers} = py:info(leaving),
    lists:sum([maps:get(calls, Worker) || Worker <- Workers]).

last(Ref) ->
    case py:stream_next(Ref, ?LONG) of
        {ok, _} -> last(Ref);
        End -> End
    end.

path(Name, Config) ->
    unicode:characters_to_binary(filename:join(?config(priv_dir, Config), Name)).

terminate(Pid) ->
    os:cmd("kill -TERM " ++ integer_to_list(Pid)).

