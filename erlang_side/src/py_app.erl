%% @doc The application: the supervisors, then the pools of its configuration.
%% @hidden
-module(py_app).
-behaviour(application).

-include("py_worker.hrl").

-export([start/2, prep_stop/1, stop/1]).

%% OTP's default handler drops every event of a domain that is not OTP's own.
%% What this library logs, Python's log among it, is for the node's operator, so
%% the handler gets a filter that lets it through while the application runs.
-define(FILTER, {fun logger_filters:domain/2, {log, sub, ?DOMAIN}}).

%% @doc Starts the pools that the environment's `pools' names, or one, `default'.
%% A pool that cannot start fails the application, with a reason that says what
%% to do.
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    try pools(application:get_all_env(erlang_python)) of
        {ok, Pools} -> start(Pools);
        {error, Reason} -> {error, Reason}
    catch
        error:{badopt, Option} -> {error, {badopt, Option}}
    end.

start(Pools) ->
    %% A node that loads a module when it is first called cannot do so where it has no descriptor left. And
    %% py_exceptions, which nothing calls, creates the atoms that reasons have for Python's own exceptions.
    {ok, Modules} = application:get_key(erlang_python, modules),
    ok = code:ensure_modules_loaded(Modules),
    ok = py_telemetry:load(),
    %% A node without that handler has a configuration of its own, which stays.
    _ = logger:add_handler_filter(default, ?MODULE, ?FILTER),
    {ok, Sup} = py_sup:start_link(),
    start_pools(Pools, Sup).

%% The pools of the environment, which holds nothing that is not known.
pools(Env) ->
    %% That one is OTP's.
    ok = py_options:application(lists:keydelete(included_applications, 1, Env)),
    Pools = maps:to_list(py_options:map(proplists:get_value(pools, Env, #{default => #{}}))),
    case [Pool || Pool = {Name, _} <- Pools, not is_atom(Name)] of
        [] -> {ok, Pools};
        [Pool | _] -> {error, {badopt, {pools, Pool}}}
    end.

start_pools([], Sup) ->
    {ok, Sup};
start_pools([{Name, Opts} | Rest], Sup) ->
    try py_pool_sup:start_pool(Name, Opts) of
        {ok, _Pid} ->
            start_pools(Rest, Sup);
        {error, Reason} ->
            give_up(Sup),
            {error, {pool, Name, Reason, py_error:format_error(Reason)}}
    catch
        error:{badopt, Option} ->
            give_up(Sup),
            {error, {pool, Name, {badopt, Option}}}
    end.

give_up(Sup) ->
    unlink(Sup),
    Monitor = monitor(process, Sup),
    exit(Sup, shutdown),
    receive
        {'DOWN', Monitor, process, Sup, _} -> ok
    end.

%% @doc Lets what runs end, for `drain_timeout'; nothing new starts meanwhile.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    case application:get_env(erlang_python, drain_timeout, 0) of
        0 ->
            ok;
        Timeout ->
            Drains = [spawn_monitor(py_pool_admin, drain, [Name, Timeout]) || Name <- py_pool:names()],
            [
                receive
                    {'DOWN', Monitor, process, Pid, _} -> ok
                end
             || {Pid, Monitor} <- Drains
            ],
            ok
    end,
    State.

-spec stop(term()) -> ok.
stop(_State) ->
    _ = logger:remove_handler_filter(default, ?MODULE),
    ok.
