%% @doc A program in one file that runs Python.
-module(script_guest).

-export([main/1]).

main([Venv]) ->
    case application:ensure_all_started(erlang_python) of
        {ok, _} ->
            {ok, Squares} = py:stream_eval("(n * n for n in range(3))"),
            io:format("squares: ~w~n", [Squares]),
            io:format("environment: ~ts~n", [made(Venv)]);
        {error, Reason} ->
            io:format("~tp~n", [Reason]),
            halt(1)
    end.

%% An environment with nothing in it: what makes it is in the archive, too.
made(Venv) ->
    ok = file:write_file("nothing.txt", ""),
    case py_venv:prepare(#{venv => Venv, requirements => {file, "nothing.txt"}}) of
        ok -> "ok";
        {error, Why} -> py:format_error(Why)
    end.
