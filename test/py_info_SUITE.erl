%% @doc What is known of pools and their workers: `py:info', the table for the shell, names of processes.
-module(py_info_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    an_idle_worker_has_imported_little/1,
    info_of_workers/1,
    info_of_stuck_workers/1,
    info_of_a_hundred_workers/1,
    workers_that_are_listed/1,
    a_table_for_the_shell/1,
    processes_have_names/1
]).

-import(test_mine, [call/2, eval/1, os_pids/0]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        an_idle_worker_has_imported_little,
        info_of_workers,
        info_of_stuck_workers,
        info_of_a_hundred_workers,
        workers_that_are_listed,
        a_table_for_the_shell,
        processes_have_names
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_mine:stop_application().

%% What is needed later is imported then: a start takes a third less time. What the interpreter has imported by
%% itself, for its site, does not count.
-spec an_idle_worker_has_imported_little(ct_suite:ct_config()) -> term().
an_idle_worker_has_imported_little(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {ok, Imported} = call(sys, 'modules.keys'),
    {ok, Python} = call(sys, 'executable.__str__'),
    Bare = string:lexemes(os:cmd(binary_to_list(Python) ++ " -c 'import sys; print(*sys.modules)'"), " \n"),
    Later = [
        "asyncio", "concurrent", "dataclasses", "datetime", "decimal", "dis", "inspect", "json", "linecache", "logging",
        "msgpack", "pickle", "random", "re", "shutil", "socket", "subprocess", "tempfile", "textwrap", "tokenize", "traceback", "typing"
    ],
    ?assertEqual([], [Name || Name <- Later -- Bare, lists:member(list_to_binary(Name), Imported)]),
    ?assert(lists:member(<<"erlang_port.worker">>, Imported)).

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
    test_os_process:signal(OsPid, "KILL"),
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
    [ok = test_os_process:stop(OsPid) || OsPid <- OsPids],
    test_eventually:true(fun() ->
        {Micros, #{workers := Workers}} = timer:tc(py, info, [mine]),
        ?assert(Micros < 100_000),
        [timeout || #{error := timeout} <- Workers] =:= [timeout, timeout]
    end),
    ?assertMatch({_, _}, binary:match(iolist_to_binary(py_info_format:format(py:info())), <<"does not answer">>)),
    [test_os_process:signal(OsPid, "CONT") || OsPid <- OsPids],
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

%% `ps' and `top' show the pool's name, and so does observer where processes have labels.
-spec processes_have_names(ct_suite:ct_config()) -> term().
processes_have_names(_Config) ->
    {ok, Manager} = py:start_pool(mine, #{workers => 1}),
    [OsPid] = os_pids(),
    ?assertMatch({_, _}, binary:match(list_to_binary(os:cmd("ps -o args= -p " ++ integer_to_list(OsPid))), <<" mine">>)),
    ?assertEqual("py:mine\n", os:cmd("ps -o comm= -p " ++ integer_to_list(OsPid))),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 0}),
    Call = py:spawn_call(time, sleep, [30], #{}, #{pool => mine}),
    {ok, In} = py:channel(),
    case erlang:function_exported(proc_lib, get_label, 1) of
        true ->
            Labels = [apply(proc_lib, get_label, [Pid]) || Pid <- processes()],
            Wanted =
                [{manager, mine}, {worker, mine}, {output, mine}, {delivery, mine}, {channel, self()}] ++
                    [{stream, {<<"itertools">>, <<"count">>}}, {call, {<<"time">>, <<"sleep">>}}],
            ?assertEqual([], [{erlang_python, What, Of} || {What, Of} <- Wanted] -- Labels),
            ?assertEqual({erlang_python, manager, mine}, apply(proc_lib, get_label, [Manager]));
        false ->
            ok
    end,
    ok = py:channel_close(In),
    ok = py:stream_cancel(Ref, [flush]),
    {error, timeout} = py:await(Call, 0).

%%% Helpers.

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
