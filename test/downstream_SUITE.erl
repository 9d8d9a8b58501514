%% @doc The project used as its users use it: from the shell, as a git dependency of an
%% application of their own, in that application's tests and in its release.
%%
%% All run the working tree as it is, from a repository made of it, with a Python that
%% has no packages, so that nothing but the project itself can provide what it needs.
%% None needs a network.
-module(downstream_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([
    shell_fed_from_a_pipe/1,
    server_of_a_git_dependency/1,
    common_test_of_the_application/1,
    release_moved_elsewhere/1,
    mix_project/1,
    slower_is_said_once/1,
    escript/1,
    demo/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 10}}].

-spec all() -> [atom() | {group, atom()}].
all() ->
    [shell_fed_from_a_pipe, {group, application}, mix_project, slower_is_said_once, escript, demo].

-spec groups() -> [{atom(), [atom()], [atom() | {group, atom()}]}].
groups() ->
    [
        {application, [], [
            server_of_a_git_dependency,
            common_test_of_the_application,
            {group, with_erts},
            {group, without_erts}
        ]},
        {with_erts, [], [release_moved_elsewhere]},
        {without_erts, [], [release_moved_elsewhere]}
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Private = ?config(priv_dir, Config),
    Python = test_bare_python:make(filename:join(Private, "bare")),
    Repository = filename:join(Private, "erlang_python"),
    ok = file:make_dir(Repository),
    Left = [".git", ".venv", "_build", "priv", "logs"],
    Root = test_program:root(),
    {ok, Names} = file:list_dir(Root),
    sh("cp", ["-R" | [filename:join(Root, Name) || Name <- Names -- Left]] ++ [Repository], Private),
    commit(Repository),
    [{python, Python}, {repository, Repository} | Config].

commit(Repository) ->
    sh("git", ["init", "--quiet", "--initial-branch=main"], Repository),
    sh("git", ["add", "--all"], Repository),
    Author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"],
    sh("git", Author ++ ["commit", "--quiet", "--no-gpg-sign", "--message", "All"], Repository).

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok.

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(application, Config) ->
    Parent = ?config(priv_dir, Config),
    sh("rebar3", ["new", "app", "name=guest"], Parent),
    Guest = filename:join(Parent, "guest"),
    sh("cp", ["-R", filename:join(?config(data_dir, Config), "guest"), Parent], Parent),
    Build = filename:join(Guest, "rebar.config"),
    fill_in(Build, "@URL@", "file://" ++ ?config(repository, Config)),
    fill_in(Build, "@INCLUDE_ERTS@", "false"),
    [{guest, Guest} | Config];
init_per_group(with_erts, Config) ->
    [{include_erts, "true"} | Config];
init_per_group(without_erts, Config) ->
    [{include_erts, "false"} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

%% Lines piped into `rebar3 shell' run as if they were typed.
-spec shell_fed_from_a_pipe(ct_suite:ct_config()) -> ok.
shell_fed_from_a_pipe(Config) ->
    {ok, Input} = file:read_file(filename:join(?config(data_dir, Config), "shell_input.erl")),
    %% rebar3 drops what it finds on its standard input before its shell is there, and
    %% starts the application beside the shell.
    Typed = {["1> ", "Booted erlang_python"], Input},
    Options = (options(Config))#{cd => ?config(repository, Config), type => Typed},
    {0, Output} = test_program:run("rebar3", ["shell"], Options),
    ct:log("~ts", [Output]),
    [
        ?assertMatch({match, _}, re:run(Output, Expected))
     || Expected <- [
            "Got: 1\\s+Got: 2\\s+Got: 3\\s+Got: 4\\s+Got: 5\\s+Complete",
            "\\{ok,\\[0,1,4,9,16,25,36,49,64,81\\]\\}",
            "Async complete",
            "\\{error,\\{'ZeroDivisionError',<<\"division by zero\">>\\}\\}"
        ]
    ],
    ok.

%% A fresh application that has the project as a git dependency owns a stream in a gen_server.
-spec server_of_a_git_dependency(ct_suite:ct_config()) -> ok.
server_of_a_git_dependency(Config) ->
    Guest = ?config(guest, Config),
    rebar3(["compile"], Config),
    Paths = filelib:wildcard(filename:join(Guest, "_build/default/lib/*/ebin")),
    Code = "{ok, _} = application:ensure_all_started(guest), " ++ report(),
    {0, Output} = test_program:run("erl", ["-noinput", "-pa"] ++ Paths ++ ["-eval", Code], options(Config)),
    Report = reported(Output),
    ?assertMatch(#{words := {ok, [<<"ONE">>, <<"TWO">>, <<"THREE">>]}}, Report),
    ?assertMatch(#{reference := #{<<"en">> := _}}, Report).

%% The application's own Common Test suite runs with `rebar3 ct'.
-spec common_test_of_the_application(ct_suite:ct_config()) -> ok.
common_test_of_the_application(Config) ->
    Output = rebar3(["ct"], Config),
    ?assertMatch({match, _}, re:run(Output, "All 2 tests passed")).

%% A release runs from where it was moved to, once the sources it was built from are gone.
-spec release_moved_elsewhere(ct_suite:ct_config()) -> ok.
release_moved_elsewhere(Config) ->
    IncludeErts = ?config(include_erts, Config),
    Private = ?config(priv_dir, Config),
    Guest = ?config(guest, Config),
    Built = filename:join(Private, "built"),
    Moved = filename:join(Private, "moved_" ++ IncludeErts),
    sh("cp", ["-R", Guest, Built], Private),
    fill_in(filename:join(Built, "rebar.config"), "{include_erts, false}", "{include_erts, " ++ IncludeErts ++ "}"),
    rebar3(["release"], [{guest, Built} | Config]),
    ok = file:rename(filename:join(Built, "_build/default/rel/guest"), Moved),
    sh("rm", ["-rf", Built], Private),
    %% The original has the dependency's sources too: out of the way with them, for the moment.
    ok = file:rename(Guest, Guest ++ "_hidden"),
    try
        Start = filename:join(Moved, "bin/guest"),
        {0, Output} = test_program:run(Start, ["foreground", "-eval", report()], options(Config)),
        #{words := Words, lib := Lib, where := Where, reference := Reference} = reported(Output),
        ?assertMatch(#{<<"en">> := _}, Reference),
        ?assertEqual({ok, [<<"ONE">>, <<"TWO">>, <<"THREE">>]}, Words),
        ?assert(lists:prefix(Moved ++ "/lib/", Lib)),
        {ok, #{<<"modules">> := Modules, <<"executable">> := Executable}} = Where,
        ?assert(lists:prefix(Moved ++ "/lib/", binary_to_list(Modules))),
        ?assertEqual(list_to_binary(?config(python, Config)), Executable),
        {0, Links} = test_program:run("find", [filename:join(Moved, "lib"), "-type", "l"], #{}),
        ?assertEqual(<<>>, Links)
    after
        ok = file:rename(Guest ++ "_hidden", Guest)
    end.

%% An Elixir project has it as a git dependency, and makes an Enumerable of a generator of its
%% own; so does its release, from where it was moved to, once the sources are gone.
-spec mix_project(ct_suite:ct_config()) -> ok | {skip, string()}.
mix_project(Config) ->
    case {os:find_executable("mix"), os:find_executable("rebar3")} of
        {false, _} ->
            {skip, "mix is not installed"};
        {_, Rebar3} ->
            Parent = ?config(priv_dir, Config),
            sh("cp", ["-R", filename:join(?config(data_dir, Config), "mix_guest"), Parent], Parent),
            Project = filename:join(Parent, "mix_guest"),
            fill_in(filename:join(Project, "mix.exs"), "@URL@", "file://" ++ ?config(repository, Config)),
            #{env := Env} = Options = options(Config),
            InProject = Options#{cd => Project, env => [{"MIX_REBAR3", Rebar3} | Env]},
            {0, _} = test_program:run("mix", ["deps.get"], InProject),
            Words = "MixGuest.words(\"to be\") |> Stream.with_index() |> Enum.to_list() |> IO.inspect()",
            Found = "[{\"to\", 0}, {\"be\", 1}, {nil, 2}]",
            Help = "; require IEx.Helpers; IEx.Helpers.h(:py.stream_start/4)",
            {0, Ran} = test_program:run("mix", ["run", "-e", Words ++ Help], InProject),
            ?assertNotEqual(nomatch, string:find(Ran, Found)),
            ?assertNotEqual(nomatch, string:find(Ran, "Starts a stream of what")),
            {0, _} = test_program:run("mix", ["release"], InProject),
            Moved = filename:join(Parent, "moved_release"),
            ok = file:rename(filename:join(Project, "_build/dev/rel/mix_guest"), Moved),
            ok = file:rename(Project, Project ++ "_hidden"),
            Start = "{:ok, _} = Application.ensure_all_started(:mix_guest); ",
            {0, Released} = test_program:run(filename:join(Moved, "bin/mix_guest"), ["eval", Start ++ Words], Options),
            ?assertNotEqual(nomatch, string:find(Released, Found)),
            ok
    end.

%% Without erlpack and msgpack the node says so once, however many workers it has, and all works.
-spec slower_is_said_once(ct_suite:ct_config()) -> ok.
slower_is_said_once(Config) ->
    Repository = ?config(repository, Config),
    sh("rebar3", ["compile"], Repository),
    Code =
        "application:set_env(erlang_python, pools, #{default => #{workers => 3}}), "
        "{ok, _} = application:ensure_all_started(erlang_python), "
        "[{ok, [0, 1, 2]} = py:stream(builtins, range, [3]) || _ <- lists:seq(1, 9)], "
        "init:stop().",
    Ebin = filename:join(Repository, "_build/default/lib/erlang_python/ebin"),
    {0, Output} = test_program:run("erl", ["-noinput", "-pa", Ebin, "-eval", Code], options(Config)),
    ct:log("~ts", [Output]),
    ?assertMatch({match, [_]}, re:run(Output, "slower", [global])).

%% An escript has the Python files in its archive, if it is asked to take them along, and makes
%% environments from there; otherwise it says what to do.
-spec escript(ct_suite:ct_config()) -> ok.
escript(Config) ->
    Parent = ?config(priv_dir, Config),
    sh("cp", ["-R", filename:join(?config(data_dir, Config), "script_guest"), Parent], Parent),
    Project = filename:join(Parent, "script_guest"),
    Build = filename:join(Project, "rebar.config"),
    fill_in(Build, "@URL@", "file://" ++ ?config(repository, Config)),
    Whole = filename:join(Project, "_build/default/bin/script_guest"),
    {0, Made} = test_program:run("rebar3", ["escriptize"], #{cd => Project}),
    ct:log("~ts", [Made]),
    {0, Output} = test_program:run(Whole, [filename:join(Parent, "script_venv")], (options(Config))#{cd => Parent}),
    ct:log("~ts", [Output]),
    ?assertMatch({match, _}, re:run(Output, "squares: \\[0,1,4\\]")),
    ?assertMatch({match, _}, re:run(Output, "environment: ok")),
    {ok, Text} = file:read_file(Build),
    [Without, _] = binary:split(Text, <<"{escript_incl_priv">>),
    ok = file:write_file(Build, Without),
    {0, _} = test_program:run("rebar3", ["escriptize"], #{cd => Project}),
    {1, Sentence} = test_program:run(Whole, ["x"], (options(Config))#{cd => Parent}),
    ct:log("~ts", [Sentence]),
    ?assertMatch({match, _}, re:run(Sentence, "escript_incl_priv")),
    ?assertEqual(nomatch, re:run(Sentence, "must be CPython")),
    ok.

%% The demo comes to its end, with the one Python that it needs.
-spec demo(ct_suite:ct_config()) -> ok.
demo(Config) ->
    Repository = ?config(repository, Config),
    sh("rebar3", ["compile"], Repository),
    #{env := Env} = Options = options(Config),
    Libs = {"ERL_LIBS", filename:join(Repository, "_build/default/lib")},
    InRepository = Options#{cd => Repository, env => lists:keystore("ERL_LIBS", 1, Env, Libs)},
    {Status, Output} = test_program:run("escript", ["examples/demo.escript"], InRepository),
    ct:log("~ts", [Output]),
    ?assertEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "^SOME$\n^WORDS$", [multiline])),
    ?assertMatch({match, _}, re:run(Output, "#{<<\"at\">> => <<\"2026-11-30T08:00:00\">>,<<\"celsius\">> => -2.0,<<\"sensor\">> => <<\"roof\">>}")),
    ?assertMatch({match, _}, re:run(Output, "2000000 events .* in order")).

%% What the application in question got, and where it runs from, as a term on a line of its own.
report() ->
    "io:format(\"~nREPORT ~0p.~n\", [#{words => guest_words:all(), lib => code:lib_dir(erlang_python),"
    " where => py:call(guest, where, [], #{}, #{pool => guest}),"
    " reference => element(5, element(2, code:get_doc(py)))}]), init:stop().".

reported(Output) ->
    ct:log("~ts", [Output]),
    {match, [Term]} = re:run(Output, "^REPORT (.*)$", [multiline, {capture, [1], list}]),
    {ok, Tokens, _} = erl_scan:string(Term),
    {ok, Report} = erl_parse:parse_term(Tokens),
    Report.

rebar3(Arguments, Config) ->
    {Status, Output} = test_program:run("rebar3", Arguments, (options(Config))#{cd => ?config(guest, Config)}),
    ct:log("rebar3 ~p: ~b~n~ts", [Arguments, Status, Output]),
    ?assertEqual(0, Status),
    Output.

%% The environment of the node that runs the tests is not for other nodes.
options(Config) ->
    #{
        env => [
            {"ERLANG_PYTHON", ?config(python, Config)},
            {"ERL_LIBS", false},
            {"ERL_FLAGS", false},
            {"REBAR_CONFIG", false}
        ]
    }.

sh(Program, Arguments, Dir) ->
    {Status, Output} = test_program:run(Program, Arguments, #{cd => Dir}),
    ?assertEqual({0, Program, Output}, {Status, Program, Output}).

fill_in(Path, Placeholder, Value) ->
    {ok, Text} = file:read_file(Path),
    ok = file:write_file(Path, string:replace(Text, Placeholder, Value, all)).
