%% @doc Interpreters that are installed, by their version.
%% @hidden
-module(py_installed).

-export([exit_printed/1, find/1, is_version/1]).

%% How long an interpreter may take to say its version.
-define(VERSION_MS, 5000).

%% @doc Whether a name is a version, as `"3.12"' or `"3.12.4"'.
-spec is_version(string()) -> boolean().
is_version(Name) ->
    re:run(Name, "^3\\.[0-9]+(\\.[0-9]+)?$", [unicode, {capture, none}]) =:= match.

%% @doc An interpreter of this version: the first on the path, else one where systems, pyenv
%% and uv put them.
-spec find(Version :: string()) -> {ok, file:filename()} | error.
find(Version) ->
    Parts = [Major, Minor | _] = string:split(Version, ".", all),
    first(Parts, candidates(lists:concat(["python", Major, ".", Minor]))).

first(_Parts, []) ->
    error;
first(Parts, [Candidate | Rest]) ->
    case lists:prefix(Parts, version(Candidate)) of
        true -> {ok, Candidate};
        false -> first(Parts, Rest)
    end.

candidates(Name) ->
    Path = [Dir || Dir <- string:split(os:getenv("PATH", ""), ":", all), Dir =/= ""],
    Home = os:getenv("HOME", "/nonexistent"),
    Roots = [
        filename:join(os:getenv("PYENV_ROOT", filename:join(Home, ".pyenv")), "versions/*"),
        os:getenv("UV_PYTHON_INSTALL_DIR", filename:join(Home, ".local/share/uv/python")) ++ "/*",
        "/usr/local",
        "/opt/homebrew",
        "/Library/Frameworks/Python.framework/Versions/*"
    ],
    OnPath = [filename:absname(filename:join(Dir, File)) || Dir <- Path, File <- [Name, "python3", "python"]],
    Elsewhere = [lists:sort(filelib:wildcard(Root ++ "/bin/" ++ Name)) || Root <- Roots],
    [File || File <- OnPath ++ lists:append(Elsewhere), os:find_executable(File) =/= false].

%% What an interpreter says of itself, as a file that has its name need not be one. Asked by a
%% process of its own, whose mailbox goes with it.
version(Python) ->
    {Pid, Monitor} = spawn_monitor(?MODULE, exit_printed, [Python]),
    receive
        {'DOWN', Monitor, process, Pid, {printed, Printed}} -> string:lexemes(Printed, " \n");
        {'DOWN', Monitor, process, Pid, _} -> []
    end.

%% @private Its exit says what was printed.
-spec exit_printed(file:filename()) -> no_return().
exit_printed(Python) ->
    exit({printed, printed(Python)}).

printed(Python) ->
    Code = "import sys; print(*sys.version_info[:3])",
    %% Stand-ins of version managers say much to standard error.
    Quiet = ["-c", "exec \"$@\" 2>/dev/null", "sh", Python, "-I", "-c", Code],
    printed(open_port({spawn_executable, "/bin/sh"}, [{args, Quiet}, exit_status, hide]), []).

printed(Port, Printed) ->
    receive
        {Port, {data, Data}} -> printed(Port, Printed ++ Data);
        {Port, {exit_status, 0}} -> Printed;
        {Port, {exit_status, _}} -> ""
    after ?VERSION_MS -> ""
    end.
