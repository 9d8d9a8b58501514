%% @doc How pools start, and how they heal: what cannot start says what to do, what died is
%% replaced and has run what the others have, and nothing that is broken for good takes down
%% what is not.
-module(py_restart_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2, log/2]).
-export([
    no_interpreter/1,
    an_interpreter_that_is_too_old/1,
    another_python/1,
    a_program_that_is_no_interpreter/1,
    the_exit_code_of_a_short_program/1,
    an_interpreter_that_never_gets_ready/1,
    a_site_hook_that_hangs/1,
    a_site_hook_that_prints/1,
    a_group_leader_that_never_answers/1,
    preload_that_fails/1,
    no_directory/1,
    paths_of_applications/1,
    relative_paths/1,
    names_of_files/1,
    configured_as_lists/1,
    the_application_says_what_to_do/1,
    surroundings/1,
    broken_while_running/1,
    broken_workers_exhaust_nothing/1,
    dies_as_soon_as_it_is_ready/1,
    a_pool_without_workers_answers_at_once/1,
    replay_in_order/1,
    replay_of_what_came_meanwhile/1,
    replay_not/1,
    the_journal_counts_code_once/1,
    the_journal_is_bounded/1,
    code_that_fails_is_not_replayed/1,
    code_that_kills_is_not_replayed/1,
    exec_beside_a_death/1,
    a_manager_is_killed/1,
    a_manager_is_killed_with_its_worker/1,
    the_supervisor_of_pools_is_killed/1,
    the_reaper_is_killed/1,
    a_reaper_hears_twice/1,
    stop_a_pool_that_cannot_start/1,
    a_slow_start_holds_up_nothing/1,
    a_starter_is_killed/1,
    a_manager_is_killed_while_it_starts/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, start}, {group, heal}, {group, replay}, {group, supervision}].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    [
        {start, [], [
            no_interpreter,
            an_interpreter_that_is_too_old,
            another_python,
            a_program_that_is_no_interpreter,
            the_exit_code_of_a_short_program,
            an_interpreter_that_never_gets_ready,
            a_site_hook_that_hangs,
            a_site_hook_that_prints,
            a_group_leader_that_never_answers,
            preload_that_fails,
            no_directory,
            paths_of_applications,
            relative_paths,
            names_of_files,
            configured_as_lists,
            the_application_says_what_to_do,
            surroundings
        ]},
        {heal, [], [
            broken_while_running,
            broken_workers_exhaust_nothing,
            dies_as_soon_as_it_is_ready,
            a_pool_without_workers_answers_at_once
        ]},
        {replay, [], [
            replay_in_order,
            replay_of_what_came_meanwhile,
            replay_not,
            the_journal_counts_code_once,
            the_journal_is_bounded,
            code_that_fails_is_not_replayed,
            code_that_kills_is_not_replayed,
            exec_beside_a_death
        ]},
        {supervision, [], [
            a_manager_is_killed,
            a_manager_is_killed_with_its_worker,
            the_supervisor_of_pools_is_killed,
            the_reaper_is_killed,
            a_reaper_hears_twice,
            stop_a_pool_that_cannot_start,
            a_slow_start_holds_up_nothing,
            a_starter_is_killed,
            a_manager_is_killed_while_it_starts
        ]}
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    persistent_term:put(?MODULE, ?config(priv_dir, Config)),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(_Config) ->
    application:unset_env(erlang_python, pools).

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(_Group, Config) ->
    Config.

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = logger:remove_handler(?MODULE),
    _ = application:stop(erlang_python),
    ok.

%%% Starts.

-spec no_interpreter(ct_suite:ct_config()) -> term().
no_interpreter(_Config) ->
    %% A pool without an interpreter does not start, and says how to name one.
    {error, Reason = {python_not_found, "no-such-python"}} = start(#{python => "no-such-python"}),
    says(["no-such-python", "3.10", "ERLANG_PYTHON"], Reason).

-spec an_interpreter_that_is_too_old(ct_suite:ct_config()) -> term().
an_interpreter_that_is_too_old(Config) ->
    %% One that is too old says so itself.
    {error, Reason = {cannot_start, _}} = start(#{python_path => [data("old", Config)]}),
    says(["3.9", "too old", "3.10"], Reason).

-spec another_python(ct_suite:ct_config()) -> term().
another_python(Config) ->
    %% So does one that is not CPython.
    {error, Reason = {cannot_start, _}} = start(#{python_path => [data("other", Config)]}),
    says(["pypy", "CPython 3.10"], Reason).

-spec a_program_that_is_no_interpreter(ct_suite:ct_config()) -> term().
a_program_that_is_no_interpreter(_Config) ->
    %% A program that ends at once, or is not Python at all, is named with what it did.
    {error, Reason} = start(#{python => "false"}),
    says(["false", "exit code 1", "standard error"], Reason),
    {error, Killed} = start(#{python => script("kill -9 $$")}),
    says(["signal 9"], Killed),
    {error, Nonsense} = start(#{python => script("printf '\\0\\0\\0\\003abc' >&4; sleep 60")}),
    says(["no frame"], Nonsense),
    %% The first four letters announce a frame of a gigabyte, which never comes.
    Talks = #{python => script("echo What is this? >&4; sleep 60"), start_timeout => 500},
    {error, {start_timeout, 500}} = start(Talks).

-spec the_exit_code_of_a_short_program(ct_suite:ct_config()) -> term().
the_exit_code_of_a_short_program(_Config) ->
    %% However soon it ends, its exit code is known: nothing is written to it before it asks.
    Short = script("exit 9"),
    Reasons = [element(2, start(#{python => Short, workers => 2})) || _ <- lists:seq(1, 50)],
    [says(["exit code 9"], Reason) || Reason <- lists:usort(Reasons)].

-spec an_interpreter_that_never_gets_ready(ct_suite:ct_config()) -> term().
an_interpreter_that_never_gets_ready(_Config) ->
    %% A worker that is not ready in time is given up, and its process ended.
    Slow = #{preload => ["import time\ntime.sleep(3600)"], start_timeout => 500},
    {error, Reason = {start_timeout, 500}} = start(Slow),
    says(["500 ms", "start_timeout", "preload"], Reason),
    test_eventually:equal([], fun() -> ets:tab2list(py_processes) end).

-spec a_site_hook_that_hangs(ct_suite:ct_config()) -> term().
a_site_hook_that_hangs(Config) ->
    %% So is one that does not get as far as the port program.
    Slow = #{python_path => [data("slow", Config)], start_timeout => 500},
    {error, {start_timeout, 500}} = start(Slow),
    test_eventually:equal([], fun() -> ets:tab2list(py_processes) end).

-spec a_group_leader_that_never_answers(ct_suite:ct_config()) -> term().
a_group_leader_that_never_answers(_Config) ->
    Silent = spawn_link(fun() -> receive stop -> ok end end),
    {_, Monitor} = spawn_monitor(fun() ->
        group_leader(Silent, self()),
        {ok, _} = start(#{}),
        ok = py:stop_pool(test)
    end),
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason)
    after 30000 -> ct:fail(no_end)
    end,
    Silent ! stop.

-spec a_site_hook_that_prints(ct_suite:ct_config()) -> term().
a_site_hook_that_prints(Config) ->
    %% What is printed before the program's first line does not touch the protocol, even if it
    %% is more than a pipe holds. It goes to the standard error of the node, which is another one
    %% here, so that it does not fill this one's log.
    Evaluation = io_lib:format(
        "ok = application:load(erlang_python),"
        "ok = application:set_env(erlang_python, pools, #{default => #{python_path => [~p], workers => 2}}),"
        "{ok, _} = application:ensure_all_started(erlang_python),"
        "io:format(\"it is ~~p~~n\", [py:eval(<<\"1 + 1\">>)]),"
        "halt().",
        [data("loud", Config)]
    ),
    Ebin = filename:dirname(code:which(py)),
    Arguments = ["-noshell", "-pa", Ebin, "-eval", lists:flatten(Evaluation)],
    {0, Output} = test_program:run(os:find_executable("erl"), Arguments, #{}),
    ?assertNotEqual(nomatch, string:find(Output, "a site hook says much")),
    ?assertNotEqual(nomatch, string:find(Output, "it is {ok,2}")).

-spec preload_that_fails(ct_suite:ct_config()) -> term().
preload_that_fails(_Config) ->
    %% The reason has the error of code to preload that fails.
    {error, Missing} = start(#{preload => [no_such_module]}),
    says(["ModuleNotFoundError", "no_such_module"], Missing),
    {error, Wrong} = start(#{preload => ["1 +"]}),
    says(["SyntaxError"], Wrong),
    {error, Exit} = start(#{preload => ["import os\nos._exit(3)"]}),
    says(["exit code 3", "preload"], Exit).

-spec no_directory(ct_suite:ct_config()) -> term().
no_directory(_Config) ->
    %% A directory to run in, or to import from, that is not there is named with its option.
    {error, Reason} = start(#{cd => "/no/such/directory"}),
    says(["/no/such/directory", " cd "], Reason),
    {error, OnPath} = start(#{python_path => [".", "/no/such/modules"]}),
    says(["/no/such/modules", "python_path"], OnPath),
    {error, App} = start(#{python_path => [{priv, no_such_application, "python"}]}),
    says(["no_such_application", "python_path"], App),
    {error, InApp} = start(#{python_path => [{priv, erlang_python, "no_such_folder"}]}),
    says(["priv/no_such_folder"], InApp).

-spec paths_of_applications(ct_suite:ct_config()) -> term().
paths_of_applications(_Config) ->
    %% Paths may be in an application, so that a configuration can name them.
    {ok, _} = start(#{python_path => [{priv, erlang_python}, {priv, erlang_python, "erlang_port"}], cd => {app, kernel}}),
    {ok, Path} = eval("__import__('sys').path"),
    Priv = filename:absname(code:priv_dir(erlang_python)),
    ?assertEqual([], [unicode:characters_to_binary(Priv), unicode:characters_to_binary(Priv ++ "/erlang_port")] -- Path),
    {ok, Cwd} = eval("__import__('os').getcwd()"),
    ?assertEqual(filename:basename(code:lib_dir(kernel)), binary_to_list(filename:basename(Cwd))).

-spec relative_paths(ct_suite:ct_config()) -> term().
relative_paths(Config) ->
    %% What is relative is relative to the node's directory when the pool starts, for workers
    %% that are started later, too.
    Dir = filename:join(?config(priv_dir, Config), "relative"),
    {0, _} = test_program:run(python(), ["-m", "venv", "--without-pip", filename:join(Dir, "venv")], #{}),
    {ok, Cwd} = file:get_cwd(),
    Before = os:getenv("ERLANG_PYTHON"),
    try
        ok = file:set_cwd(Dir),
        os:putenv("ERLANG_PYTHON", "venv/bin/python"),
        Opts = [#{venv => "venv"}, #{python => "venv/bin/python"}, #{python => <<"./venv/bin/python">>}, #{}],
        Pools = [{list_to_atom("relative_" ++ integer_to_list(N)), Opt} || {N, Opt} <- lists:zip(lists:seq(1, 4), Opts)],
        [{ok, _} = py:start_pool(Pool, Opt#{workers => 1, python_path => ["."]}) || {Pool, Opt} <- Pools],
        ok = file:set_cwd(Cwd),
        [
            begin
                #{workers := [#{pid := Pid}]} = py:info(Pool),
                exit(Pid, kill),
                Executable = fun() -> py:eval("__import__('sys').executable", #{}, #{pool => Pool}) end,
                test_eventually:true(fun() ->
                    case Executable() of
                        {ok, Path} -> filename:basename(filename:dirname(filename:dirname(Path))) =:= <<"venv">>;
                        {error, _} -> false
                    end
                end)
            end
         || {Pool, _} <- Pools
        ]
    after
        ok = file:set_cwd(Cwd),
        Before =:= false orelse os:putenv("ERLANG_PYTHON", Before)
    end.

-spec names_of_files(ct_suite:ct_config()) -> term().
names_of_files(Config) ->
    %% Names that are not ASCII work as binaries and as strings, also in a node that takes
    %% names of files for Latin-1.
    Dir = filename:join(?config(priv_dir, Config), "names"),
    Make = "import os, pathlib, subprocess, sys; d = pathlib.Path(sys.argv[1], 'd\\u00e9j\\u00e0 \\u20ac'); d.mkdir(parents=True); "
        "(d / 'found.py').write_text(''); subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(d / 'venv')], check=True)",
    {0, _} = test_program:run(python(), ["-X", "utf8", "-c", Make, Dir], #{}),
    Code =
        "application:load(erlang_python), application:set_env(erlang_python, pools, #{}), "
        "{ok, _} = application:ensure_all_started(erlang_python), "
        "Names = [<<\"d\\303\\251j\\303\\240 \\342\\202\\254\">>, [$d, 233, $j, 224, 32, 8364], [$d, 195, 169, $j, 195, 160, 32, 226, 130, 172]], "
        "Take = case file:native_name_encoding() of latin1 -> 3; utf8 -> 2 end, "
        "Check = fun(Name, Opts) -> {ok, _} = py:start_pool(p, Opts#{workers => 1, python_path => [Name], cd => Name, env => [{\"NAME\", Name}]}), "
        "R = py:eval(\"__import__('os').environ['NAME'] == __import__('os').path.basename(__import__('os').getcwd()) and __import__('found') is not None "
        "and __import__('sys').prefix.endswith('venv')\", #{}, #{pool => p}), ok = py:stop_pool(p), {ok, true} = R end, "
        "Join = fun(Name, Rest) when is_binary(Name) -> <<Name/binary, (list_to_binary(Rest))/binary>>; (Name, Rest) -> Name ++ Rest end, "
        "[begin Check(Name, #{venv => Join(Name, \"/venv\")}), Check(Name, #{python => Join(Name, \"/venv/bin/python\")}) end || Name <- lists:sublist(Names, Take)], "
        "{error, Reason} = py:start_pool(p, #{workers => 1, cd => <<\"d\\303\\251\">>}), "
        "io:format(\"~p ~ts done\", [file:native_name_encoding(), [C || C <- py:format_error(Reason), C < 128]]), halt().",
    Ebin = filename:dirname(code:which(py)),
    [
        begin
            {0, Output} = test_program:run("erl", Flags ++ ["-noinput", "-pa", Ebin, "-eval", Code], #{cd => Dir, env => Env}),
            ct:log("~ts", [Output]),
            [?assertNotEqual(nomatch, string:find(Output, Word)) || Word <- Words]
        end
     || {Flags, Env, Words} <- [
            {[], [{"LC_ALL", "C"}], ["latin1", "Latin-1", "cd", "done"]},
            {[], [{"LC_ALL", false}, {"LC_CTYPE", false}, {"LANG", false}], ["latin1", "Latin-1", "cd", "done"]},
            {["+fnl"], [{"LC_ALL", "C.UTF-8"}], ["latin1", "Latin-1", "cd", "done"]},
            {[], [{"LC_ALL", "C.UTF-8"}], ["utf8", "cd", "done"]}
        ]
    ].

-spec configured_as_lists(ct_suite:ct_config()) -> term().
configured_as_lists(_Config) ->
    %% A configuration may have lists for maps, and nothing that nobody knows.
    ok = application:stop(erlang_python),
    ok = application:set_env(erlang_python, pools, [{test, [{workers, 1}, {python_path, [{priv, erlang_python}]}]}]),
    {ok, _} = application:ensure_all_started(erlang_python),
    ?assertEqual({ok, 2}, eval("1 + 1")),
    ok = application:stop(erlang_python),
    ok = application:set_env(erlang_python, pool, #{}),
    try
        {error, {erlang_python, {{badopt, {pool, #{}}}, _}}} = application:ensure_all_started(erlang_python)
    after
        ok = application:unset_env(erlang_python, pool)
    end,
    ok = application:set_env(erlang_python, pools, [{test, [{wrokers, 1}]}]),
    {error, {erlang_python, Reason}} = application:ensure_all_started(erlang_python),
    ?assertNotEqual(nomatch, string:find(io_lib:format("~p", [Reason]), "wrokers")).

-spec the_application_says_what_to_do(ct_suite:ct_config()) -> term().
the_application_says_what_to_do(_Config) ->
    %% An application whose pool cannot start does not start, says so in words, and leaves
    %% nothing behind.
    ok = application:stop(erlang_python),
    Pools = #{good => #{workers => 1}, missing => #{python => "no-such-python"}},
    ok = application:set_env(erlang_python, pools, Pools),
    {error, {erlang_python, Reason}} = application:ensure_all_started(erlang_python),
    Text = lists:flatten(io_lib:format("~tp", [Reason])),
    [?assertNotEqual(nomatch, string:find(Text, Word)) || Word <- ["missing", "no-such-python", "ERLANG_PYTHON"]],
    ?assertEqual(undefined, whereis(py_sup)).

-spec surroundings(ct_suite:ct_config()) -> term().
surroundings(Config) ->
    %% A pool's directory, environment and path are its workers'.
    Directory = ?config(priv_dir, Config),
    ok = file:write_file(filename:join(Directory, "found_on_path.py"), "where = __file__\n"),
    true = os:putenv("PY_RESTART_TAKEN_AWAY", "1"),
    {ok, _} = start(#{
        cd => Directory,
        env => [{"PY_RESTART", <<"è"/utf8>>}, {<<"PY_RESTART_TAKEN_AWAY">>, false}],
        python_path => [Directory]
    }),
    ?assertEqual(
        {ok, unicode:characters_to_binary(filename:nativename(filename:absname(Directory)))},
        eval("__import__('os').path.abspath('.')")
    ),
    ?assertEqual({ok, <<"è"/utf8>>}, eval("__import__('os').environ['PY_RESTART']")),
    ?assertEqual({ok, none}, eval("__import__('os').environ.get('PY_RESTART_TAKEN_AWAY')")),
    ?assertMatch({ok, _}, eval("__import__('found_on_path').where")).

%%% Healing.

-spec broken_while_running(ct_suite:ct_config()) -> term().
broken_while_running(Config) ->
    %% A pool whose environment breaks keeps trying, says so in the log and in info(), and
    %% recovers when it is mended.
    Marker = filename:join(?config(priv_dir, Config), "restart_broken"),
    Python = script("test -e " ++ Marker ++ " && exit 9; exec " ++ python() ++ " \"$@\""),
    {ok, _} = start(#{python => Python, workers => 2, worker_wait => 0}),
    ok = py:exec("word = 1", #{pool => test}),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    ok = file:write_file(Marker, ""),
    kill_workers(),
    test_eventually:true(fun() -> maps:get(failures, py:info(test)) >= 4 end),
    #{last_exit := Reason, workers := []} = py:info(test),
    says(["exit code 9"], Reason),
    ?assertEqual({error, Reason}, eval("1")),
    Pauses = [maps:get(next_try_ms, Report) || Report = #{next_try_ms := _} <- logged()],
    [First | _] = Distinct = lists:usort(Pauses),
    ?assertEqual([First, 2 * First], lists:sublist(Distinct, 2)),
    ok = logger:remove_handler(?MODULE),
    ok = file:delete(Marker),
    test_eventually:equal({ok, 1}, fun() -> eval("word") end),
    test_eventually:equal(2, fun() -> length(maps:get(workers, py:info(test))) end),
    ?assertMatch(#{failures := 0}, py:info(test)).

-spec broken_workers_exhaust_nothing(ct_suite:ct_config()) -> term().
broken_workers_exhaust_nothing(Config) ->
    %% Many workers that cannot start do not wear out a supervisor, and other pools notice
    %% nothing.
    Marker = filename:join(?config(priv_dir, Config), "restart_broken_for_good"),
    Python = script("test -e " ++ Marker ++ " && exit 9; exec " ++ python() ++ " \"$@\""),
    {ok, Manager} = start(#{python => Python, workers => 6}),
    {ok, _} = py:start_pool(other, #{workers => 1}),
    Supervisor = whereis(py_pool_sup),
    ok = file:write_file(Marker, ""),
    kill_workers(),
    test_eventually:true(fun() -> maps:get(failures, py:info(test)) >= 12 end),
    ?assertEqual(Supervisor, whereis(py_pool_sup)),
    ?assert(is_process_alive(Manager)),
    ?assertEqual({ok, 2}, py:eval("1 + 1", #{}, #{pool => other})),
    ?assertMatch(#{restarts := 0}, py:info(other)),
    ok = file:delete(Marker).

-spec dies_as_soon_as_it_is_ready(ct_suite:ct_config()) -> term().
dies_as_soon_as_it_is_ready(Config) ->
    %% A worker that dies of its own code right after it was ready is not started in a tight
    %% loop: after the first time there is a pause, twice as long each time.
    Marker = filename:join(?config(priv_dir, Config), "restart_dying"),
    Code = ["import os, threading\n", "if os.path.exists('", Marker, "'):\n",
        "    threading.Timer(0.02, os._exit, (1,)).start()"],
    {ok, Manager} = start(#{preload => [iolist_to_binary(Code)], workers => 1}),
    ok = file:write_file(Marker, ""),
    1 = erlang:trace_pattern({erlang, send_after, 3}, true, []),
    1 = erlang:trace(Manager, true, [call]),
    kill_workers(),
    %% On a machine that is busy one may live for longer; then it begins anew.
    paused([100, 200, 400], []),
    1 = erlang:trace(Manager, false, [call]),
    ok = file:delete(Marker).

paused(Expected, Before) ->
    receive
        {trace, _, call, {erlang, send_after, [Ms, _, {start_worker, _}]}} ->
            lists:suffix(Expected, Before ++ [Ms]) orelse paused(Expected, Before ++ [Ms])
    after ?LONG -> error({paused, Before})
    end.

-spec a_pool_without_workers_answers_at_once(ct_suite:ct_config()) -> term().
a_pool_without_workers_answers_at_once(Config) ->
    %% While no worker lives, every request has its answer at once, if it may not wait.
    Marker = filename:join(?config(priv_dir, Config), "restart_broken_now"),
    Python = script("test -e " ++ Marker ++ " && exit 9; exec " ++ python() ++ " \"$@\""),
    {ok, _} = start(#{python => Python, workers => 1, worker_wait => 0}),
    ok = file:write_file(Marker, ""),
    kill_workers(),
    test_eventually:true(fun() -> maps:get(failures, py:info(test)) >= 2 end),
    {Took, _} = timer:tc(fun() ->
        ?assertMatch({error, {cannot_start, _}}, eval("1")),
        ?assertMatch({error, {cannot_start, _}}, py:exec("1", #{pool => test})),
        ?assertMatch({error, {cannot_start, _}}, py:call(time, sleep, [1], #{}, #{pool => test})),
        ?assertMatch({error, {cannot_start, _}}, py:stream(builtins, iter, [[]], #{}, #{pool => test})),
        ?assertMatch({error, {cannot_start, _}}, py:stream_start(builtins, iter, [[]], #{pool => test}))
    end),
    ?assert(Took < 1000000),
    ok = file:delete(Marker).

%%% Replay.

-spec replay_in_order(ct_suite:ct_config()) -> term().
replay_in_order(_Config) ->
    %% A worker that replaces another has run what is preloaded, then all code in order.
    {ok, _} = start(#{workers => 2, preload => ["order = ['preload']"]}),
    [ok = exec(["order.append(", integer_to_list(N), ")"]) || N <- lists:seq(1, 20)],
    kill_workers(),
    Expected = {ok, [<<"preload">> | lists:seq(1, 20)]},
    [test_eventually:equal(Expected, fun() -> eval("order") end) || _ <- lists:seq(1, 10)].

-spec replay_of_what_came_meanwhile(ct_suite:ct_config()) -> term().
replay_of_what_came_meanwhile(_Config) ->
    %% Code that is run while a worker starts is run in that worker, too.
    {ok, _} = start(#{workers => 2, preload => ["import time\ntime.sleep(0.3)\nseen = []"]}),
    [kill(Pid) || {ok, Pid} <- [eval("__import__('os').getpid()")]],
    test_eventually:equal(1, fun() -> length(maps:get(workers, py:info(test))) end),
    [ok = exec(["seen.append(", integer_to_list(N), ")"]) || N <- lists:seq(1, 5)],
    test_eventually:equal(2, fun() -> length(maps:get(workers, py:info(test))) end),
    [test_eventually:equal({ok, [1, 2, 3, 4, 5]}, fun() -> eval("seen") end) || _ <- lists:seq(1, 10)].

-spec replay_not(ct_suite:ct_config()) -> term().
replay_not(_Config) ->
    %% Code that is not to be replayed is not.
    {ok, _} = start(#{workers => 1}),
    ok = exec("kept = 1"),
    ok = py:exec("gone = 1", #{pool => test, replay => false}),
    ?assertEqual({ok, 1}, eval("gone")),
    kill_workers(),
    test_eventually:equal({ok, 1}, fun() -> eval("kept") end),
    ?assertMatch({error, {'NameError', _}}, eval("gone")).

-spec the_journal_counts_code_once(ct_suite:ct_config()) -> term().
the_journal_counts_code_once(_Config) ->
    %% Code that is run again and again is kept once, where it ran last.
    {ok, _} = start(#{workers => 1}),
    ok = exec("order = globals().get('order', []) + ['first']"),
    [ok = exec("again = globals().get('again', 0) + 1; order = globals().get('order', []) + ['again']")
     || _ <- lists:seq(1, 50)
    ],
    ?assertMatch(#{journal := 2}, py:info(test)),
    ?assertEqual({ok, 50}, eval("again")),
    kill_workers(),
    test_eventually:equal({ok, 1}, fun() -> eval("again") end),
    ?assertEqual({ok, [<<"first">>, <<"again">>]}, eval("order")).

-spec the_journal_is_bounded(ct_suite:ct_config()) -> term().
the_journal_is_bounded(_Config) ->
    %% Past its bound code is run and not kept, and the log warns and advises.
    {ok, _} = start(#{workers => 1}),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    [ok = exec(["x", integer_to_list(N), " = 1"]) || N <- lists:seq(1, 1005)],
    ok = logger:remove_handler(?MODULE),
    ?assertMatch(#{journal := 1000}, py:info(test)),
    ?assertEqual({ok, 1}, eval("x1005")),
    Warnings = [Advice || #{advice := Advice, pool := test} <- logged()],
    ?assertEqual(5, length(Warnings)).

-spec code_that_fails_is_not_replayed(ct_suite:ct_config()) -> term().
code_that_fails_is_not_replayed(_Config) ->
    %% Code that failed is not kept.
    {ok, _} = start(#{workers => 2}),
    ?assertMatch({error, {'ZeroDivisionError', _}}, exec("1 / 0")),
    ?assertMatch({error, {'SyntaxError', _}}, exec("1 +")),
    ?assertMatch(#{journal := 0}, py:info(test)).

-spec code_that_kills_is_not_replayed(ct_suite:ct_config()) -> term().
code_that_kills_is_not_replayed(_Config) ->
    %% Nor is code that took every worker with it: the pool would never heal.
    {ok, _} = start(#{workers => 2}),
    ok = exec("word = 1"),
    ?assertEqual({error, {worker_exit, 4}}, exec("import os\nos._exit(4)")),
    test_eventually:equal({ok, 1}, fun() -> eval("word") end),
    ?assertMatch(#{journal := 1}, py:info(test)).

-spec exec_beside_a_death(ct_suite:ct_config()) -> term().
exec_beside_a_death(_Config) ->
    %% Code that ran while another worker died is ok, and the one that took its place ran it.
    {ok, _} = start(#{workers => 2}),
    {ok, Victim} = eval("__import__('os').getpid()"),
    {Pid, Monitor} = spawn_monitor(fun() ->
        exit(exec("import time\ntime.sleep(0.5)\nword = 'ran'"))
    end),
    test_eventually:true(fun() -> lists:sum([C || #{calls := C} <- maps:get(workers, py:info(test))]) > 0 end),
    kill(Victim),
    receive
        {'DOWN', Monitor, process, Pid, Result} -> ?assertEqual(ok, Result)
    end,
    test_eventually:equal(2, fun() -> length(maps:get(workers, py:info(test))) end),
    [test_eventually:equal({ok, <<"ran">>}, fun() -> eval("word") end) || _ <- lists:seq(1, 10)].

%%% Supervision.

%% Nobody is left who has known the worker.
-spec a_manager_is_killed_with_its_worker(ct_suite:ct_config()) -> term().
a_manager_is_killed_with_its_worker(_Config) ->
    {ok, {Manager, _}} = py:start_worker(#{}, monitor),
    #{workers := [#{pid := Worker}]} = py:info(Manager),
    true = erlang:suspend_process(Manager),
    [exit(Pid, kill) || Pid <- [Worker, Manager]],
    test_eventually:equal([], fun() -> ets:tab2list(py_workers) end).

-spec a_manager_is_killed(ct_suite:ct_config()) -> term().
a_manager_is_killed(_Config) ->
    %% A pool whose manager is killed comes back with what it had run, and its workers'
    %% requests are answered.
    {ok, Manager} = start(#{workers => 2}),
    ok = exec("word = 1"),
    {ok, Ref} = py:stream_start(time, sleep, [60], #{pool => test}),
    exit(Manager, kill),
    receive
        {py_stream, Ref, Event} -> ?assertMatch({error, {worker_exit, _}}, Event)
    after ?LONG -> error(no_answer)
    end,
    test_eventually:equal({ok, 1}, fun() -> eval("word") end),
    test_eventually:equal(2, fun() -> ets:info(py_processes, size) end).

-spec the_supervisor_of_pools_is_killed(ct_suite:ct_config()) -> term().
the_supervisor_of_pools_is_killed(_Config) ->
    %% Pools that were started at run time come back when their supervisor does.
    {ok, _} = start(#{workers => 2}),
    {ok, _} = py:start_pool(other, #{workers => 1}),
    ok = exec("word = 1"),
    ok = py:stop_pool(other),
    exit(whereis(py_pool_sup), kill),
    test_eventually:equal({ok, 1}, fun() -> eval("word") end),
    test_eventually:equal(2, fun() -> ets:info(py_processes, size) end),
    ?assertEqual([test], py_pool:names()).

-spec the_reaper_is_killed(ct_suite:ct_config()) -> term().
the_reaper_is_killed(_Config) ->
    %% A reaper that is restarted still ends the Python processes that it did not start with.
    {ok, _} = start(#{workers => 1}),
    Reaper = whereis(py_reaper),
    exit(Reaper, kill),
    test_eventually:true(fun() -> is_pid(whereis(py_reaper)) andalso whereis(py_reaper) =/= Reaper end),
    {ok, Python} = eval("__import__('os').getpid()"),
    {ok, _} = py:stream_start(
        builtins, eval, ["[__import__('ctypes').PyDLL(None).usleep(60_000_000)]"], #{pool => test}
    ),
    [#{pid := Worker}] = maps:get(workers, py:info(test)),
    exit(Worker, kill),
    test_eventually:true(fun() -> os:cmd("kill -0 " ++ integer_to_list(Python)) =/= [] end).

-spec a_reaper_hears_twice(ct_suite:ct_config()) -> term().
a_reaper_hears_twice(_Config) ->
    %% A reaper that was just started finds in the table which process Python is, and has the message as
    %% well. It opens what says how that is once.
    {ok, _} = start(#{workers => 1}),
    [#{pid := Worker, os_pid := OsPid}] = maps:get(workers, py:info(test)),
    Said = fun(Do) ->
        Do(),
        %% What was sent before has been handled.
        _ = sys:get_state(py_reaper),
        open("/proc/" ++ integer_to_list(OsPid) ++ "/stat")
    end,
    Open = Said(fun() -> ok end),
    Again = fun(State) ->
        ok = py_reaper:identify(OsPid, kill),
        State
    end,
    ?assertEqual(Open, Said(fun() -> _ = sys:replace_state(Worker, Again) end)).

%% How many descriptors of this node are of a file.
open(File) ->
    Folder = "/proc/self/fd",
    Names = filelib:wildcard("*", Folder),
    length([Name || Name <- Names, {ok, Target} <- [file:read_link(filename:join(Folder, Name))], Target =:= File]).

-spec stop_a_pool_that_cannot_start(ct_suite:ct_config()) -> term().
stop_a_pool_that_cannot_start(Config) ->
    %% A pool whose starts keep failing can be stopped, and is forgotten.
    Marker = filename:join(?config(priv_dir, Config), "restart_broken_then_stopped"),
    Python = script("test -e " ++ Marker ++ " && exit 9; exec " ++ python() ++ " \"$@\""),
    {ok, _} = start(#{python => Python, workers => 2}),
    ok = file:write_file(Marker, ""),
    kill_workers(),
    test_eventually:true(fun() -> maps:get(failures, py:info(test)) >= 2 end),
    ok = py:stop_pool(test),
    ?assertEqual({error, {no_pool, test}}, eval("1")),
    ok = file:delete(Marker),
    {ok, _} = start(#{workers => 1}).

-spec a_slow_start_holds_up_nothing(ct_suite:ct_config()) -> term().
a_slow_start_holds_up_nothing(Config) ->
    %% Other pools start and stop while one starts; it can be stopped, and so can the application.
    {Slow, Begun} = slow(Config),
    First = start_aside(slow, Slow),
    test_eventually:true(Begun),
    {error, {already_started, _}} = py:start_pool(slow, Slow),
    {ok, _} = start(#{}),
    ok = py:stop_pool(test),
    ok = py:stop_pool(slow),
    ?assertEqual({error, {worker_exit, stopped}}, result(First)),
    ?assertEqual(#{}, py:info()),
    {SlowAgain, BegunAgain} = slow(Config),
    Second = start_aside(slow, SlowAgain),
    test_eventually:true(BegunAgain),
    {Micros, ok} = timer:tc(fun() -> application:stop(erlang_python) end),
    ?assert(Micros < 10_000_000),
    ?assertEqual({error, {worker_exit, stopped}}, result(Second)).

-spec a_starter_is_killed(ct_suite:ct_config()) -> term().
a_starter_is_killed(Config) ->
    %% A pool whose start nobody waits for any more goes on; one that fails then says so in the
    %% log, and its name is free.
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    {Slow, Begun} = slow(Config),
    {Starter, Monitor} = start_aside(test, Slow#{start_timeout => 2000}),
    test_eventually:true(Begun),
    exit(Starter, kill),
    receive
        {'DOWN', Monitor, process, Starter, killed} -> ok
    end,
    receive
        {logged, #{text := "a pool cannot start", pool := test}} -> ok
    end,
    %% It says so before it ends.
    test_eventually:equal(ok, fun() -> element(1, start(#{})) end),
    ?assertEqual({ok, 2}, eval("1 + 1")).

-spec a_manager_is_killed_while_it_starts(ct_suite:ct_config()) -> term().
a_manager_is_killed_while_it_starts(Config) ->
    %% A start that is broken off has failed, and leaves nothing.
    {Slow, Begun} = slow(Config),
    Starting = start_aside(test, Slow),
    test_eventually:true(Begun),
    {error, {already_started, Manager}} = start(#{}),
    exit(Manager, kill),
    ?assertEqual({error, {worker_exit, killed}}, result(Starting)),
    ?assertEqual(#{}, py:info()),
    {ok, _} = start(#{}).

%%% Helpers.

%% A pool that does not get ready, and whether it has begun.
slow(Config) ->
    Marker = filename:join(?config(priv_dir, Config), "slow_" ++ integer_to_list(erlang:unique_integer([positive]))),
    Code = "import time; open('" ++ Marker ++ "', 'w').close(); time.sleep(3600)",
    {#{workers => 2, preload => [Code], start_timeout => 60000}, fun() -> filelib:is_file(Marker) end}.

start_aside(Name, Opts) ->
    spawn_monitor(fun() -> exit({result, py:start_pool(Name, Opts)}) end).

result({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result
    end.

start(Opts) ->
    py:start_pool(test, maps:merge(#{workers => 1}, Opts)).

eval(Code) ->
    py:eval(Code, #{}, #{pool => test}).

exec(Code) ->
    py:exec(Code, #{pool => test}).

data(Name, Config) ->
    filename:join(?config(data_dir, Config), Name).

python() ->
    os:getenv("ERLANG_PYTHON", "python3").

script(Command) ->
    Number = integer_to_list(erlang:unique_integer([positive])),
    File = filename:join(persistent_term:get(?MODULE), "script_" ++ Number),
    ok = file:write_file(File, ["#!/bin/sh\n", Command, "\n"]),
    ok = file:change_mode(File, 8#755),
    File.

kill_workers() ->
    #{workers := Workers} = py:info(test),
    [kill(gen_server:call(Pid, os_pid)) || #{pid := Pid} <- Workers].

kill(OsPid) ->
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ok.

says(Words, Reason) ->
    Text = py_error:format_error(Reason),
    [?assertEqual({found, Text}, {found_word(Text, Word), Text}) || Word <- Words].

%% A logger handler that sends reports on.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {report, Report}}, #{config := Pid}) ->
    Pid ! {logged, Report},
    ok;
log(_Event, _Config) ->
    ok.

logged() ->
    receive
        {logged, Report = #{}} -> [Report | logged()];
        {logged, _} -> logged()
    after 0 -> []
    end.

found_word(Text, Word) ->
    case string:find(Text, Word) of
        nomatch -> {missing, Word};
        _ -> found
    end.
