%% @doc The reference: what `h(py)' prints in a shell.
-module(py_reference_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    the_shell_prints_a_function/1,
    every_public_function_is_documented/1,
    private_modules_are_hidden/1
]).

-define(PUBLIC, [py, py_error, py_name, py_options, py_paths, py_pool_info, py_prometheus, py_venv]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        the_shell_prints_a_function,
        every_public_function_is_documented,
        private_modules_are_hidden
    ].

%% `h(py, stream_start, 4)' has the spec and the comment; `ht' has the options with their defaults.
-spec the_shell_prints_a_function(ct_suite:ct_config()) -> ok.
the_shell_prints_a_function(_Config) ->
    {ok, Docs} = code:get_doc(py),
    Function = printed(shell_docs:render(py, stream_start, 4, Docs)),
    ?assertNotEqual(nomatch, string:find(Function, "stream_start(")),
    ?assertNotEqual(nomatch, string:find(Function, "Starts a stream of what M:F returns")),
    ?assertNotEqual(nomatch, string:find(printed(shell_docs:render(py, Docs)), "Python from Erlang")),
    {ok, Options} = code:get_doc(py_options),
    Type = printed(shell_docs:render_type(py_options, stream_options, 0, Options)),
    ?assertNotEqual(nomatch, string:find(Type, "window (default: 1024)")),
    ok.

-spec every_public_function_is_documented(ct_suite:ct_config()) -> ok.
every_public_function_is_documented(_Config) ->
    {ok, {docs_v1, _, _, _, _, _, Entries}} = code:get_doc(py),
    Documented = [{Name, Arity} || {{function, Name, Arity}, _, _, #{<<"en">> := _}, _} <- Entries],
    ?assertEqual([], [Function || Function = {Name, _} <- py:module_info(exports) -- Documented, Name =/= module_info]).

%% A module has a page only if its users are meant to know it.
-spec private_modules_are_hidden(ct_suite:ct_config()) -> ok.
private_modules_are_hidden(_Config) ->
    _ = application:load(erlang_python),
    {ok, Modules} = application:get_key(erlang_python, modules),
    Public = [
        Module
     || Module <- Modules, {ok, {docs_v1, _, _, _, Text, _, _}} <- [code:get_doc(Module)], is_map(Text)
    ],
    ?assertEqual(?PUBLIC, lists:sort(Public)).

printed(Text) ->
    %% Without what makes it bold or underlined.
    re:replace(unicode:characters_to_binary(Text), "\e\\[[0-9;]*m", "", [global, {return, list}]).
