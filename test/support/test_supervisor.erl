%% @doc A supervisor as an application has it, for the pools of a case.
-module(test_supervisor).

-behaviour(supervisor).

-export([start/1, stop/1]).
%% Of the supervisor.
-export([init/1]).

%% @doc Starts one that is linked to the caller.
-spec start([supervisor:child_spec()]) -> supervisor:startlink_ret().
start(Specs) ->
    supervisor:start_link(?MODULE, Specs).

%% @doc Ends it as its parent does, and returns when it has ended. The caller traps exits.
-spec stop(pid()) -> ok.
stop(Sup) ->
    exit(Sup, shutdown),
    receive
        {'EXIT', Sup, shutdown} -> ok
    end.

%% @private
-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Specs) ->
    {ok, {#{intensity => 5}, Specs}}.
