-module(guest_app).

-behaviour(application).

-export([start/2, stop/1]).

%% A pool of the application's own, which finds the application's Python in its priv.
start(_Type, _Args) ->
    Python = filename:join(code:priv_dir(guest), "python"),
    {ok, _} = py:start_pool(guest, #{workers => 1, python_path => [Python]}),
    guest_sup:start_link().

stop(_State) ->
    ok = py:stop_pool(guest).
