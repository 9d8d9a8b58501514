%% @doc New code for a node that runs.
-module(test_code).

-export([load_twice/0]).

%% @doc Loads every module of the application twice, as two upgrades do. What still runs the code that was
%% there before is ended by the node.
-spec load_twice() -> ok.
load_twice() ->
    {ok, Modules} = application:get_key(erlang_python, modules),
    lists:foreach(
        fun(Module) ->
            _ = code:purge(Module),
            {module, Module} = code:load_file(Module)
        end,
        Modules ++ Modules
    ).
