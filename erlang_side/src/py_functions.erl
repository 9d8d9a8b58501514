%% @doc Erlang functions that Python code may call, by name. They stay until they
%% are unregistered, also when the process that registered one ends.
%% @hidden
-module(py_functions).

-export([lookup/1, names/0, register/2, tables/0, unregister/1]).
-export_type([callback/0]).

-define(TABLE, py_functions).

-type callback() :: fun(([term()]) -> term()) | {module(), atom()}.
%% Called with the list of arguments, as one argument.

%% @doc Makes the table; its owner outlives every worker.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc Registers a function. It replaces one of the same name.
-spec register(py_name:name(), callback()) -> ok.
register(Name, Callback) ->
    check(Callback),
    true = ets:insert(?TABLE, {py_name:identifier(Name), Callback}),
    ok.

check(Fun) when is_function(Fun, 1) -> ok;
check({M, F}) when is_atom(M), is_atom(F) -> ok;
check(Other) -> py_badopt:raise(function, Other).

%% @doc Forgets a function. Calls of it that are under way go on.
-spec unregister(py_name:name()) -> ok.
unregister(Name) ->
    true = ets:delete(?TABLE, py_name:identifier(Name)),
    ok.

%% @doc The function of a name.
-spec lookup(binary()) -> {ok, callback()} | error.
lookup(Name) ->
    try ets:lookup(?TABLE, Name) of
        [{Name, Callback}] ->
            {ok, Callback};
        [] ->
            case py_name:normalized(Name) of
                Name -> error;
                Normalized -> lookup(Normalized)
            end
    catch
        %% The application has stopped.
        error:badarg -> error
    end.

%% @doc The names of all functions, in order.
-spec names() -> [binary()].
names() ->
    lists:sort([Name || {Name, _} <- ets:tab2list(?TABLE)]).
