%% @doc The paths among a pool's options.
-module(py_paths).

-export([absolute/1, is_path/1, missing/1, venv/1]).
-export_type([path/0]).

-type path() :: string() | binary() | {app, atom()} | {priv, atom()} | {priv, atom(), string() | binary()}.
%% A path, or the folder of an application, or its `priv', or what is in there.

%% @private
%% @doc Whether an option's value is a path.
-spec is_path(term()) -> boolean().
is_path({app, App}) -> is_atom(App);
is_path({priv, App}) -> is_atom(App);
is_path({priv, App, Sub}) -> is_atom(App) andalso py_text:is_native(Sub) andalso Sub =/= "";
is_path(Path) -> py_text:is_native(Path) andalso Path =/= "" andalso Path =/= <<>>.

%% @private
%% @doc The same options with every path a string that is absolute. Fails if there is no
%% such application.
-spec absolute(py_options:pool_options()) ->
    {ok, py_options:pool_options()} | {error, py_error:reason()}.
absolute(PoolOpts) ->
    try
        {ok, maps:map(fun option/2, PoolOpts)}
    catch
        throw:{error, Reason} -> {error, Reason}
    end.

option(venv, Path) -> absolute(venv, Path);
option(cd, Path) -> absolute(cd, Path);
option(python_path, Paths) -> [absolute(python_path, Path) || Path <- Paths];
option(requirements, {file, Path}) -> {file, absolute(requirements, Path)};
option(requirements, {project, Path}) -> {project, absolute(requirements, Path)};
option(_Option, Value) -> Value.

absolute(Option, {app, App}) -> directory_of(App, code:lib_dir(App), Option);
absolute(Option, {priv, App}) -> directory_of(App, code:priv_dir(App), Option);
absolute(Option, {priv, App, Sub}) -> filename:join(absolute(Option, {priv, App}), py_text:native(Sub));
absolute(_Option, Path) -> filename:absname(py_text:native(Path)).

directory_of(App, {error, bad_name}, Option) ->
    cannot_start("the pool option ~ts names the application ~tp, which is not there", [Option, App]);
directory_of(_App, Directory, _Option) ->
    filename:absname(Directory).

%% @private
%% @doc The directory of a virtual environment. One that a pool has made may be a link, so
%% that another one can take its place; what runs in it stays where it is.
-spec venv(file:filename()) -> file:filename().
venv(Directory) ->
    case file:read_link_all(Directory) of
        {ok, Target} -> filename:absname(Target, filename:dirname(Directory));
        {error, _} -> Directory
    end.

%% @private
%% @doc A sentence if something that must be there for a worker to start is not.
-spec missing(py_options:pool_options()) -> none | {error, py_error:reason()}.
missing(PoolOpts = #{python_path := Path}) ->
    Directories = [Dir || {ok, Dir} <- [maps:find(cd, PoolOpts)], not filelib:is_dir(Dir)],
    %% A zip file is as good as a folder there.
    OnPath = [Entry || Entry <- Path, not filelib:is_file(Entry)],
    case {Directories, OnPath} of
        {[], []} -> none;
        {[Dir | _], _} -> not_there("cd", Dir);
        {[], [Entry | _]} -> not_there("python_path", Entry)
    end.

not_there(Option, Path) ->
    try
        cannot_start("there is no directory ~ts, which the pool option ~ts names~ts", [
            py_text:readable(Path), Option, encoding(Path)
        ])
    catch
        throw:Error -> Error
    end.

%% What is written in Latin-1 on the disk is not what a name in Unicode finds.
encoding(Path) ->
    case file:native_name_encoding() of
        latin1 -> encoding_of(lists:any(fun(Char) -> Char > 127 end, Path));
        utf8 -> ""
    end.

encoding_of(true) -> "; this node takes names of files for Latin-1, and the name was looked up in UTF-8";
encoding_of(false) -> "".

-spec cannot_start(io:format(), [term()]) -> no_return().
cannot_start(Format, Args) ->
    throw({error, {cannot_start, unicode:characters_to_binary(io_lib:format(Format, Args))}}).
