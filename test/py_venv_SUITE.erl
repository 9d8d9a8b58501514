%% @doc Virtual environments that pools make for themselves, by pip and by uv. None needs a
%% network: what is installed is made here.
-module(py_venv_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2, log/2]).
-export([
    made_and_found_again/1,
    made_once/1,
    at_a_relative_path/1,
    half_made/1,
    of_the_users/1,
    cannot_be_made/1,
    offline/1,
    rebuilt_aside/1,
    files_count/1,
    a_project/1,
    a_project_with_a_lock/1,
    programs_on_the_path/1,
    ends_with_its_pool/1,
    ends_with_the_application/1,
    ends_with_the_node/1,
    ends_with_a_signal_to_the_node/1,
    a_worker_of_ones_own_is_stopped/1,
    progress_is_logged/1,
    progress_in_a_shell/1,
    prepared_ahead/1,
    prepared_where_nothing_can_be_written/1,
    copied_into_its_place/1,
    gone_while_running/1,
    without_pip/1,
    another_interpreter/1,
    an_interpreter_by_its_version/1,
    a_folder_that_is_none/1,
    requirements_need_a_venv/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 3}}].

-spec all() -> [atom() | {group, atom()}].
all() ->
    [
        {group, pip},
        {group, uv},
        progress_in_a_shell,
        prepared_ahead,
        prepared_where_nothing_can_be_written,
        copied_into_its_place,
        gone_while_running,
        without_pip,
        another_interpreter,
        an_interpreter_by_its_version,
        a_folder_that_is_none,
        requirements_need_a_venv,
        a_worker_of_ones_own_is_stopped,
        ends_with_the_node,
        ends_with_a_signal_to_the_node
    ].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Both = [
        made_and_found_again,
        made_once,
        at_a_relative_path,
        half_made,
        of_the_users,
        cannot_be_made,
        offline,
        rebuilt_aside,
        files_count,
        a_project,
        a_project_with_a_lock,
        programs_on_the_path,
        ends_with_its_pool,
        ends_with_the_application,
        progress_is_logged
    ],
    [{pip, [], Both}, {uv, [], Both}].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Dir = ?config(priv_dir, Config),
    Wheels = filename:join(Dir, "wheels"),
    ok = file:make_dir(Wheels),
    %% Nothing that the machine is configured to have is to be found.
    Alone = [
        {"PIP_CONFIG_FILE", "/dev/null"},
        {"PIP_NO_INDEX", "1"},
        {"PIP_FIND_LINKS", Wheels},
        {"UV_NO_CONFIG", "1"},
        {"UV_OFFLINE", "1"},
        {"UV_NO_INDEX", "1"},
        {"UV_FIND_LINKS", Wheels},
        {"UV_CACHE_DIR", filename:join(Dir, "cache")},
        {"UV_PYTHON_DOWNLOADS", "never"}
    ],
    [{python, python()}, {one, wheel(Wheels, "1.0")}, {two, wheel(Wheels, "2.0")}, {alone, Alone}, {path, without_uv(Dir)} | Config].

%% The path of a machine where nobody has installed uv.
without_uv(Dir) ->
    Bin = filename:join(Dir, "bin"),
    ok = file:make_dir(Bin),
    [
        ok = file:make_symlink(os:find_executable(Program), filename:join(Bin, Program))
     || Program <- ["sh", "env", "cat", "sleep", "python3", "gcc"], os:find_executable(Program) =/= false
    ],
    Bin.

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(_Config) ->
    application:unset_env(erlang_python, pools).

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_group(pip, Config) ->
    [{env, [{"PATH", ?config(path, Config)} | ?config(alone, Config)]} | Config];
init_per_group(uv, Config) ->
    case uv() of
        false -> {skip, "uv is not installed: pip install uv"};
        Uv -> [{env, [{"PATH", filename:dirname(Uv) ++ ":" ++ os:getenv("PATH")} | ?config(alone, Config)]} | Config]
    end.

%% Beside the interpreter, where the extra `test' puts it, or on the path.
uv() ->
    os:find_executable("uv", filename:dirname(python()) ++ ":" ++ os:getenv("PATH")).

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(Case, Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Installer =
        case ?config(env, Config) of
            undefined -> [{env, [{"PATH", ?config(path, Config)} | ?config(alone, Config)]}];
            _ -> []
        end,
    Number = integer_to_list(erlang:unique_integer([positive])),
    Dir = filename:join(?config(priv_dir, Config), lists:concat([Case, "_", Number])),
    ok = file:make_dir(Dir),
    Installer ++ [{dir, Dir} | Config].

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = logger:remove_handler(?MODULE),
    _ = application:stop(erlang_python),
    ok.

%%% By either installer.

%% A pool with requirements makes its environment and fills it; the next start finds it.
-spec made_and_found_again(ct_suite:ct_config()) -> term().
made_and_found_again(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    Made = python_of(Config),
    ok = py:stop_pool(test),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ?assertEqual(Made, python_of(Config)).

%% Two that want the same environment at the same time make it once.
-spec made_once(ct_suite:ct_config()) -> term().
made_once(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    Makers = [spawn_monitor(fun() -> exit(py_venv:prepare(Opts)) end) || _ <- [1, 2]],
    [
        receive
            {'DOWN', Monitor, process, Pid, Result} -> ?assertEqual(ok, Result)
        end
     || {Pid, Monitor} <- Makers
    ],
    ?assertMatch([_], builds(Config)),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()).

%% It is relative to the node's directory at the pool's start, and so it is for workers that are started later.
-spec at_a_relative_path(ct_suite:ct_config()) -> term().
at_a_relative_path(Config) ->
    Name = <<"v\303\251nv">>,
    {ok, Cwd} = file:get_cwd(),
    ok = file:set_cwd(?config(dir, Config)),
    try
        {ok, _} = py:start_pool(test, (opts(Config))#{venv => Name, requirements => [?config(one, Config)]})
    after
        ok = file:set_cwd(Cwd)
    end,
    ?assertEqual({ok, <<"1.0">>}, word()),
    [Worker] = test_workers:ready(test),
    exit(Worker, kill),
    test_eventually:equal({ok, <<"1.0">>}, fun word/0),
    {ok, Prefix} = py:eval("__import__('sys').prefix", #{}, #{pool => test}),
    ?assertNotEqual(nomatch, binary:match(Prefix, Name)).

%% One that was broken off is nothing that anybody finds, and is removed.
-spec half_made(ct_suite:ct_config()) -> term().
half_made(Config) ->
    {Opts, Installer} = installing(Config),
    %% Half a second is the reaper's; nothing of a maker that is killed outright clears up.
    Maker = spawn(fun() -> py:start_pool(test, Opts) end),
    [_] = test_eventually_some(fun() -> builds(Config) end),
    ok = await_file(Installer),
    exit(Maker, kill),
    ok = py:stop_pool(test),
    ?assertEqual(false, filelib:is_file(venv(Config))),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(one, Config)]}),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ?assertMatch([_], builds(Config)).

%% An environment that was there is filled and never removed, even if that fails.
-spec of_the_users(ct_suite:ct_config()) -> term().
of_the_users(Config) ->
    {0, _} = test_program:run(python(), ["-m", "venv", venv(Config)], #{}),
    Mine = filename:join(venv(Config), "mine"),
    ok = file:write_file(Mine, "mine"),
    Opts = opts(Config),
    {error, {cannot_start, _}} = py:start_pool(test, Opts#{requirements => ["/no/such/wheel-1.0-py3-none-any.whl"]}),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(one, Config)]}),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ok = py:stop_pool(test),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(two, Config)]}),
    ?assertEqual({ok, <<"2.0">>}, word()),
    ?assertEqual({ok, <<"mine">>}, file:read_file(Mine)),
    ?assertMatch({error, _}, file:read_link(venv(Config))).

%% The reason is a sentence, and then what the installer said; nothing is left, and the next
%% attempt starts afresh.
-spec cannot_be_made(ct_suite:ct_config()) -> term().
cannot_be_made(Config) ->
    Opts = opts(Config),
    {error, Reason} = py:start_pool(test, Opts#{requirements => ["/no/such/wheel-1.0-py3-none-any.whl"]}),
    says([venv(Config), "cannot be made", "pip install ended with exit code", "/no/such/wheel-1.0-py3-none-any.whl"], Reason),
    ?assertEqual(#{}, py:info()),
    ?assertEqual([], builds(Config)),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(one, Config)]}),
    ?assertEqual({ok, <<"1.0">>}, word()).

%% Who has no network learns it in seconds.
-spec offline(ct_suite:ct_config()) -> term().
offline(Config) ->
    Opts = #{env := Env} = opts(Config),
    %% Port 9 of this machine refuses.
    Online = [Variable || Variable = {Name, _} <- Env, not lists:member(Name, ["PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"])],
    Wanted = Opts#{env := Online, requirements => ["--index-url", "http://127.0.0.1:9/simple", "nothing-of-that-name"]},
    {Micros, {error, Reason}} = timer:tc(fun() -> py:start_pool(test, Wanted) end),
    says(["cannot be made", "nothing-of-that-name"], Reason),
    ?assert(Micros < 30_000_000).

%% Other requirements make another environment, and what runs in the one before keeps it.
-spec rebuilt_aside(ct_suite:ct_config()) -> term().
rebuilt_aside(Config) ->
    Opts = opts(Config),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(one, Config)]}),
    {ok, _} = py:start_pool(other, Opts#{requirements => [?config(two, Config)]}),
    ?assertEqual({ok, <<"2.0">>}, word(other)),
    %% Imported only now.
    ?assertEqual({ok, <<"1.0">>}, word(test)),
    [#{pid := Worker}] = maps:get(workers, py:info(other)),
    ?assert(is_pid(Worker)),
    ok = py:stop_pool(test),
    ok = py:stop_pool(other),
    %% Requirements that were taken from the list are not there any more.
    {ok, _} = py:start_pool(test, Opts#{requirements => [filename:join(?config(dir, Config), empty_wheel(Config))]}),
    ?assertMatch({error, {'ModuleNotFoundError', _}}, word()),
    ?assertMatch([_, _], builds(Config)).

%% A file is read anew at each start of a pool, with those that it includes.
-spec files_count(ct_suite:ct_config()) -> term().
files_count(Config) ->
    File = filename:join(?config(dir, Config), "requirements.txt"),
    ok = file:write_file(File, "-r included.txt\n"),
    Included = filename:join(?config(dir, Config), "included.txt"),
    Opts = opts(Config),
    [
        begin
            ok = file:write_file(Included, "tiny-wheel==" ++ Version ++ "\n"),
            {ok, _} = py:start_pool(test, Opts#{requirements => Requirements}),
            ?assertEqual({ok, list_to_binary(Version)}, word()),
            ok = py:stop_pool(test)
        end
     || Requirements <- [{file, File}, ["-r", File]], Version <- ["1.0", "2.0"]
    ],
    {error, Reason} = py:start_pool(test, Opts#{requirements => {file, "/no/such/file.txt"}}),
    says(["/no/such/file.txt", "requirements"], Reason).

%% A project's needs are installed; its pyproject.toml counts.
-spec a_project(ct_suite:ct_config()) -> term().
a_project(Config) ->
    Project = project(Config, ["dependencies = [\"tiny-wheel==1.0\"]\n"]),
    Opts = (opts(Config))#{requirements => {project, Project}},
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ok = py:stop_pool(test),
    Project = project(Config, ["dependencies = [\"tiny-wheel==2.0\"]\n"]),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"2.0">>}, word()),
    {error, Reason} = py:start_pool(other, Opts#{requirements => {project, ?config(priv_dir, Config)}}),
    says(["pyproject.toml"], Reason).

%% What a lock names is installed, and nothing but uv can read it.
-spec a_project_with_a_lock(ct_suite:ct_config()) -> term().
a_project_with_a_lock(Config) ->
    Source = ["[tool.uv.sources]\ntiny-wheel = { path = \"", ?config(one, Config), "\" }\n"],
    Project = project(Config, ["dependencies = [\"tiny-wheel\"]\n", Source]),
    Opts = #{env := Env} = (opts(Config))#{requirements => {project, Project}},
    case uv() of
        false ->
            {skip, "uv is not installed: pip install uv"};
        Uv ->
            {0, _} = test_program:run(Uv, ["lock", "--project", Project, "--python", python()], #{env => Env}),
            locked(py:start_pool(test, Opts), lists:keyfind("PATH", 1, Env) =/= {"PATH", ?config(path, Config)})
    end.

locked({ok, _}, true) ->
    ?assertEqual({ok, <<"1.0">>}, word());
locked({error, Reason}, false) ->
    says(["uv.lock", "needs uv"], Reason).

%% Programs that are installed are found first, and run in the environment by its own name.
-spec programs_on_the_path(ct_suite:ct_config()) -> term().
programs_on_the_path(Config) ->
    {ok, _} = py:start_pool(test, (opts(Config))#{requirements => [?config(one, Config)]}),
    {ok, Program} = py:call(shutil, which, [<<"tiny">>], #{}, #{pool => test}),
    ?assertEqual(filename:basename(Program), <<"tiny">>),
    ?assertEqual({ok, <<"1.0\n">>}, py:eval("__import__('subprocess').check_output(['tiny'], text=True)", #{}, #{pool => test})),
    {ok, Script} = file:read_file(filename:join([venv(Config), "bin", "tiny"])),
    ?assertNotEqual(nomatch, binary:match(Script, list_to_binary(venv(Config) ++ "/bin/python"))).

%%% What makes it ends, and holds up nothing.

%% A pool whose environment takes long is stopped at once, with what the installer started;
%% other pools start and stop meanwhile.
-spec ends_with_its_pool(ct_suite:ct_config()) -> term().
ends_with_its_pool(Config) ->
    {Opts, Installer} = installing(Config),
    Starting = start_aside(slow, Opts#{worker_wait => 0}),
    ok = await_file(Installer),
    {error, {already_started, _}} = py:start_pool(slow, Opts),
    {ok, _} = py:start_pool(test, #{workers => 1}),
    ?assertEqual({ok, 2}, py:eval("1 + 1", #{}, #{pool => test})),
    ok = py:stop_pool(test),
    ?assertMatch({error, {worker_exit, starting}}, py:eval("1", #{}, #{pool => slow})),
    ok = py:stop_pool(slow),
    ?assertEqual({error, {worker_exit, stopped}}, result(Starting)),
    gone(Installer),
    ?assertEqual({error, {no_pool, slow}}, py:eval("1", #{}, #{pool => slow})).

%% So is the application, and it has left no process when it has stopped.
-spec ends_with_the_application(ct_suite:ct_config()) -> term().
ends_with_the_application(Config) ->
    {Opts, Installer} = installing(Config),
    Starting = start_aside(slow, Opts),
    ok = await_file(Installer),
    {Micros, ok} = timer:tc(fun() -> application:stop(erlang_python) end),
    ?assert(Micros < 5_000_000),
    ?assertEqual({error, {worker_exit, stopped}}, result(Starting)),
    gone(Installer).

%% So is a node that is killed.
-spec ends_with_the_node(ct_suite:ct_config()) -> term().
ends_with_the_node(Config) ->
    {Opts, Installer} = installing(Config),
    Node = node_that_starts(Opts),
    ok = await_file(Installer),
    ok = test_os_process:kill(os_pid(Node)),
    gone(Installer),
    ended(Node).

%% So is a node that is asked to stop while it starts the pools of its configuration.
-spec ends_with_a_signal_to_the_node(ct_suite:ct_config()) -> term().
ends_with_a_signal_to_the_node(Config) ->
    {Opts, Installer} = installing(Config),
    Node = node_that_starts(Opts),
    ok = await_file(Installer),
    _ = os:cmd("kill " ++ os_pid(Node)),
    ended(Node),
    gone(Installer).

%% Who starts a worker of their own waits for it, and ends it by ending.
-spec a_worker_of_ones_own_is_stopped(ct_suite:ct_config()) -> term().
a_worker_of_ones_own_is_stopped(Config) ->
    {Opts, Installer} = installing(Config),
    Starter = spawn(fun() -> py:start_worker(maps:remove(workers, Opts)) end),
    ok = await_file(Installer),
    exit(Starter, kill),
    gone(Installer).

%% What is done is said while it is done.
-spec progress_is_logged(ct_suite:ct_config()) -> term().
progress_is_logged(Config) ->
    {Opts, Installer} = installing(Config),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    _ = start_aside(slow, Opts),
    receive
        {logged, #{pool := slow, line := Line}} -> ?assert(byte_size(Line) > 0)
    end,
    ok = await_file(Installer),
    ok = py:stop_pool(slow).

%% In a shell each line takes the place of the one before, for a pool as for what is made
%% ahead, and the log has none of them.
-spec progress_in_a_shell(ct_suite:ct_config()) -> term().
progress_in_a_shell(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    %% Two words, so that what is typed is not what is awaited.
    Start = "element(1, py:start_pool(test, element(2, hd(element(2, file:consult(\"opts.term\")))))) =:= ok andalso list_to_atom(\"made\" ++ \"_it\").",
    ok = file:write_file(filename:join(?config(dir, Config), "opts.term"), io_lib:format("~p.~n", [{opts, Opts}])),
    Load = "application:set_env(erlang_python, pools, #{}), {ok, _} = application:ensure_all_started(erlang_python), ",
    Erl = [os:find_executable("erl"), "-pa", filename:dirname(code:which(py_venv))],
    Script = filename:join(?config(data_dir, Config), "shell.py"),
    {0, Printed} = test_program:run(python(), [Script, Load ++ Start, "made_it" | Erl], #{
        cd => ?config(dir, Config), env => [{"TERM", "xterm"}]
    }),
    ct:log("~p", [Printed]),
    [?assertNotEqual(nomatch, string:find(Printed, ["\r\e[K", Line])) || Line <- ["==> python -m venv", "==> pip install"]],
    ?assertEqual(nomatch, string:find(Printed, "a virtual environment is made")).

%%% Ahead, and in other places.

%% An environment is made without the application, by what an image's build can run.
-spec prepared_ahead(ct_suite:ct_config()) -> term().
prepared_ahead(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    Code = lists:flatten(io_lib:format("io:format(\"~~p\", [py_venv:prepare(~p)]), halt().", [Opts])),
    {0, Output} = test_program:run("erl", ["-noinput", "-pa", filename:dirname(code:which(py_venv)), "-eval", Code], #{}),
    ?assertNotEqual(nomatch, string:find(Output, "ok")),
    [Build] = builds(Config),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ?assertEqual([Build], builds(Config)),
    ?assertEqual(ok, py_venv:prepare([{workers, 1}])).

%% Such an environment is used where nothing can be written.
-spec prepared_where_nothing_can_be_written(ct_suite:ct_config()) -> term().
prepared_where_nothing_can_be_written(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    ok = py_venv:prepare(Opts),
    Dir = ?config(dir, Config),
    Lock = filename:join([Dir, ".venv.builds", "lock"]),
    ok = file:delete(Lock),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    %% It was not taken, so nothing was written.
    ?assertEqual(false, filelib:is_file(Lock)).

%% A copy of it, as images are put together, is as good, and is replaced like it.
-spec copied_into_its_place(ct_suite:ct_config()) -> term().
copied_into_its_place(Config) ->
    Opts = (opts(Config))#{requirements => [?config(one, Config)]},
    ok = py_venv:prepare(Opts),
    [Build] = builds(Config),
    ok = file:delete(venv(Config)),
    {0, _} = test_program:run("cp", ["-R", Build, venv(Config)], #{}),
    {0, _} = test_program:run("rm", ["-r", filename:dirname(Build)], #{}),
    {ok, _} = py:start_pool(test, Opts),
    ?assertEqual({ok, <<"1.0">>}, word()),
    ?assertEqual({ok, <<"1.0\n">>}, py:eval("__import__('subprocess').check_output(['tiny'], text=True)", #{}, #{pool => test})),
    ?assertEqual([], builds(Config)),
    ok = py:stop_pool(test),
    {ok, _} = py:start_pool(test, Opts#{requirements => [?config(two, Config)]}),
    ?assertEqual({ok, <<"2.0">>}, word()).

%% An environment that is gone is made again for a worker that is restarted.
-spec gone_while_running(ct_suite:ct_config()) -> term().
gone_while_running(Config) ->
    {ok, _} = py:start_pool(test, (opts(Config))#{requirements => [?config(one, Config)]}),
    ok = file:delete(venv(Config)),
    ?assertMatch({error, {worker_exit, _}}, py:call(os, '_exit', [1], #{}, #{pool => test})),
    test_eventually:equal({ok, <<"1.0">>}, fun() -> word() end).

%% An environment without pip, as uv makes it, is filled all the same.
-spec without_pip(ct_suite:ct_config()) -> term().
without_pip(Config) ->
    {0, _} = test_program:run(python(), ["-m", "venv", "--without-pip", venv(Config)], #{}),
    {ok, _} = py:start_pool(test, (opts(Config))#{requirements => [?config(one, Config)]}),
    ?assertEqual({ok, <<"1.0">>}, word()).

%% Another interpreter makes another environment.
-spec another_interpreter(ct_suite:ct_config()) -> term().
another_interpreter(Config) ->
    case other_version() of
        none ->
            {skip, "there is no second Python of 3.10 or newer"};
        Other ->
            Opts = (opts(Config))#{requirements => [?config(one, Config)]},
            {ok, _} = py:start_pool(test, Opts),
            ok = py:stop_pool(test),
            {ok, _} = py:start_pool(test, Opts#{python => Other}),
            {ok, Version} = py:call(platform, python_version, [], #{}, #{pool => test}),
            ?assertEqual(list_to_binary(Other), iolist_to_binary(lists:join(".", lists:sublist(binary:split(Version, <<".">>, [global]), 2)))),
            ?assertEqual({ok, <<"1.0">>}, word())
    end.

%% A number names an interpreter that is installed.
-spec an_interpreter_by_its_version(ct_suite:ct_config()) -> term().
an_interpreter_by_its_version(_Config) ->
    {ok, Full} = version_of(python()),
    [Major, Minor, _] = string:split(Full, ".", all),
    Version = Major ++ "." ++ Minor,
    {ok, _} = py:start_pool(test, #{workers => 1, python => Version}),
    {ok, Found} = py:call(platform, python_version, [], #{}, #{pool => test}),
    ?assertEqual(list_to_binary(Version), iolist_to_binary(lists:join(".", lists:sublist(binary:split(Found, <<".">>, [global]), 2)))),
    {error, Reason = {python_not_found, "3.999"}} = py:start_pool(other, #{workers => 1, python => "3.999"}),
    says(["3.999"], Reason).

%% A folder with something else in it is nobody's environment, and stays as it is.
-spec a_folder_that_is_none(ct_suite:ct_config()) -> term().
a_folder_that_is_none(Config) ->
    Mine = filename:join(venv(Config), "mine"),
    ok = filelib:ensure_dir(Mine),
    ok = file:write_file(Mine, "mine"),
    {error, Reason} = py:start_pool(test, (opts(Config))#{requirements => [?config(one, Config)]}),
    says([venv(Config), "no virtual environment"], Reason),
    ?assertEqual({ok, <<"mine">>}, file:read_file(Mine)).

-spec requirements_need_a_venv(ct_suite:ct_config()) -> term().
requirements_need_a_venv(_Config) ->
    {error, Reason} = py:start_pool(test, #{requirements => ["six"]}),
    says(["requirements", "venv"], Reason),
    ?assertError({badopt, {requirements, {folder, "x"}}}, py:start_pool(test, #{venv => "v", requirements => {folder, "x"}})).

%%% Helpers.

opts(Config) ->
    #{workers => 1, python => ?config(python, Config), venv => venv(Config), env => ?config(env, Config), start_timeout => 60000}.

venv(Config) ->
    filename:join(?config(dir, Config), "venv").

builds(Config) ->
    [Dir || Dir <- filelib:wildcard(filename:join(?config(dir, Config), ".venv.builds/*")), filelib:is_dir(Dir), filename:basename(Dir) =/= "link"].

python_of(Config) ->
    {ok, Target} = file:read_link(venv(Config)),
    Target.

word() ->
    word(test).

word(Pool) ->
    py:eval("__import__('tiny_wheel').word", #{}, #{pool => Pool}).

%% Itself, and not a program that looks for one.
python() ->
    Named = os:getenv("ERLANG_PYTHON", "python3"),
    {0, Path} = test_program:run(os:find_executable(Named), ["-c", "import sys; print(sys.executable, end='')"], #{}),
    binary_to_list(Path).

version_of(Python) ->
    case test_program:run(Python, ["-c", "import platform; print(platform.python_version(), end='')"], #{}) of
        {0, Version} -> {ok, binary_to_list(Version)};
        _ -> error
    end.

other_version() ->
    {ok, Full} = version_of(python()),
    Others = [V || V <- ["3.10", "3.11", "3.12", "3.13", "3.14"], not lists:prefix(V ++ ".", Full)],
    case [V || V <- Others, {ok, _} <- [py_installed:find(V)]] of
        [Other | _] -> Other;
        [] -> none
    end.

%% A package whose build does not end. The installer runs it, in the processes that it has
%% for that; the file gets the number of the last of them.
installing(Config) ->
    Package = filename:join(?config(dir, Config), "slow"),
    File = filename:join(?config(dir, Config), "installer.pid"),
    ok = filelib:ensure_dir(filename:join(Package, "x")),
    ok = file:write_file(filename:join(Package, "pyproject.toml"), [
        "[build-system]\nrequires = []\nbuild-backend = 'slow'\nbackend-path = ['.']\n",
        "[project]\nname = 'slow'\nversion = '1'\n"
    ]),
    ok = file:write_file(filename:join(Package, "slow.py"), [
        "import os, time\n",
        "def build_wheel(*args, **kwargs):\n",
        "    with open('", File, ".new', 'w') as file:\n",
        "        file.write(str(os.getpid()))\n",
        "    os.rename('", File, ".new', '", File, "')\n",
        "    time.sleep(3600)\n"
    ]),
    {(opts(Config))#{requirements => [Package]}, File}.

await_file(File) ->
    test_eventually:true(fun() -> filelib:is_file(File) end, 60000).

gone(File) ->
    {ok, Pid} = file:read_file(File),
    test_eventually:true(fun() -> not test_os_process:is_running(Pid) end).

test_eventually_some(Fun) ->
    test_eventually:true(fun() -> Fun() =/= [] end, 60000),
    Fun().

start_aside(Name, Opts) ->
    spawn_monitor(fun() -> exit({result, py:start_pool(Name, Opts)}) end).

result({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result
    end.

%% A node whose configuration has a pool that takes long.
node_that_starts(Opts) ->
    Code = io_lib:format(
        "application:load(erlang_python), application:set_env(erlang_python, pools, #{slow => ~p}), "
        "application:ensure_all_started(erlang_python).",
        [Opts]
    ),
    Ebin = filename:dirname(code:which(py_venv)),
    open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noinput", "-pa", Ebin, "-eval", lists:flatten(Code)]}, exit_status, stderr_to_stdout
    ]).

os_pid(Port) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    integer_to_list(Pid).

ended(Port) ->
    receive
        {Port, {exit_status, _}} -> ok;
        {Port, {data, Data}} ->
            ct:log("~ts", [Data]),
            ended(Port)
    end.

project(Config, Lines) ->
    Project = filename:join(?config(dir, Config), "project"),
    ok = filelib:ensure_dir(filename:join(Project, "x")),
    Head = "[project]\nname = \"guest\"\nversion = \"1\"\nrequires-python = \">=3.10\"\n",
    ok = file:write_file(filename:join(Project, "pyproject.toml"), [Head | Lines]),
    Project.

says(Words, Reason) ->
    Text = py_error:format_error(Reason),
    [?assertEqual({found, Word, Text}, {found_word(Text, Word), Word, Text}) || Word <- Words].

found_word(Text, Word) ->
    case string:find(Text, Word) of
        nomatch -> missing;
        _ -> found
    end.

%% A logger handler that sends reports on.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {report, Report}}, #{config := Pid}) ->
    Pid ! {logged, Report},
    ok;
log(_Event, _Config) ->
    ok.

%% A package that needs no index and no build, and a program that it installs.
wheel(Dir, Version) ->
    Program = "tiny_wheel:main\n",
    Source = ["word = '", Version, "'\n\n\ndef main():\n    print(word)\n"],
    wheel(Dir, "tiny_wheel", Version, [
        {"tiny_wheel.py", iolist_to_binary(Source)},
        {info("tiny_wheel", Version) ++ "entry_points.txt", list_to_binary("[console_scripts]\ntiny = " ++ Program)}
    ]).

empty_wheel(Config) ->
    wheel(?config(dir, Config), "empty_wheel", "1.0", []).

wheel(Dir, Name, Version, Files) ->
    Info = info(Name, Version),
    Metadata = [
        {Info ++ "METADATA", list_to_binary(["Metadata-Version: 2.1\nName: ", Name, "\nVersion: ", Version, "\n"])},
        {Info ++ "WHEEL", <<"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n">>}
    ],
    All = Files ++ Metadata,
    Record = [[File, ",,\n"] || {File, _} <- All] ++ [Info, "RECORD,,\n"],
    Wheel = filename:join(Dir, lists:concat([Name, "-", Version, "-py3-none-any.whl"])),
    {ok, _} = zip:create(Wheel, All ++ [{Info ++ "RECORD", iolist_to_binary(Record)}]),
    Wheel.

info(Name, Version) ->
    lists:concat([Name, "-", Version, ".dist-info/"]).
