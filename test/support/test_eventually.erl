%% @doc Waits for what will come true without an event that says so.
-module(test_eventually).

-export([equal/2, true/1, true/2]).

%% How long anything may take on a machine that does other things as well.
-define(LIMIT_MS, 30000).
-define(PAUSE_MS, 5).

%% @doc Returns when `Fun' returns true.
-spec true(fun(() -> boolean())) -> ok.
true(Fun) ->
    equal(true, Fun).

%% @doc The same for what takes longer than anything should.
-spec true(fun(() -> boolean()), LimitMs :: pos_integer()) -> ok.
true(Fun, LimitMs) ->
    equal(true, Fun, erlang:monotonic_time(millisecond) + LimitMs).

%% @doc Returns when `Fun' returns what is expected, and fails with what it returned last.
-spec equal(Expected :: term(), fun(() -> term())) -> ok.
equal(Expected, Fun) ->
    equal(Expected, Fun, erlang:monotonic_time(millisecond) + ?LIMIT_MS).

equal(Expected, Fun, Deadline) ->
    case Fun() of
        Expected ->
            ok;
        Other ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true -> error({never, Expected, [{last, Other}]});
                false -> ok
            end,
            receive
            after ?PAUSE_MS -> ok
            end,
            equal(Expected, Fun, Deadline)
    end.
