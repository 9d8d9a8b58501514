%% @doc What streams and calls must leave behind: nothing.
-module(test_leftovers).

-export([none/0, none_and_stop/0]).

%% @doc Returns when no stream and no request is left, on either side.
-spec none() -> ok.
none() ->
    test_eventually:equal(0, fun() -> ets:info(py_streams, size) end),
    test_eventually:equal([], fun() -> lists:append([busy(Pool) || Pool <- py_pool:names()]) end).

%% @doc The same, and then no pool is left either.
-spec none_and_stop() -> term().
none_and_stop() ->
    try
        none()
    after
        [ok = py:stop_pool(Pool) || Pool <- py_pool:names()]
    end.

busy(Pool) ->
    #{workers := Workers} = py:info(Pool),
    %% The question itself is a request on both sides.
    [
        Worker
     || Worker = #{streams := Streams, calls := Calls, requests := Requests} <- Workers,
        {Streams, Calls, Requests} =/= {0, 0, 0}
    ].
