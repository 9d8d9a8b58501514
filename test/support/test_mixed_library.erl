%% @doc The library under test: its code, and which processes are its own.
-module(test_mixed_library).

-export([library/0, library_processes/0, kind/1, is_library/1]).

%% @doc The code of its modules, all loaded.
-spec library() -> [{module(), file:filename(), binary()}].
library() ->
    {ok, Modules} = application:get_key(erlang_python, modules),
    [
        begin
            {Module, Binary, File} = code:get_object_code(Module),
            {module, Module} = code:ensure_loaded(Module),
            {Module, File, Binary}
        end
     || Module <- Modules
    ].

-spec library_processes() -> [{pid(), Kind :: atom()}].
library_processes() ->
    [{Pid, Kind} || Pid <- processes(), Kind <- [kind(Pid)], Kind =/= user, Kind =/= other].

%% The module that a process of the library runs, or whose it is.
-spec kind(pid()) -> module() | user | other.
kind(Pid) ->
    case process_info(Pid, [dictionary, current_stacktrace, initial_call]) of
        undefined ->
            other;
        [{dictionary, Dictionary}, {current_stacktrace, Stack}, {initial_call, {First, _, _}}] ->
            case proplists:get_value(chaos_user, Dictionary, false) of
                true ->
                    user;
                false ->
                    {Initial, _, _} = proplists:get_value('$initial_call', Dictionary, {other, x, 0}),
                    Modules = [Initial, First | lists:reverse([M || {M, _, _, _} <- Stack])],
                    case supervised(Pid, [M || M <- Modules, is_library(M)]) of
                        [] -> other;
                        [Kind | _] -> Kind
                    end
            end
    end.

supervised(Pid, Modules) ->
    case whereis(erlang_python) of
        Pid -> [pg];
        _ ->
            case process_info(Pid, registered_name) of
                {registered_name, Name} when is_atom(Name) -> [Name || is_library(Name)] ++ Modules;
                _ -> Modules
            end
    end.

-spec is_library(module()) -> boolean().
is_library(Module) ->
    lists:prefix("py_", atom_to_list(Module)) andalso Module =/= py_app.
