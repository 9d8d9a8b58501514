%% @doc Workers of a process's own: each has a manager, and no pool, and ends with the process
%% that it was started for.
%% @hidden
-module(py_own_worker).

-export([start/2, start_for/2, stop/1]).

%% @doc Starts a worker of the caller's own, which ends with its Python process and
%% with the caller.
-spec start(py_options:pool_options(), link | monitor) ->
    {ok, pid()} | {ok, {pid(), reference()}} | {error, term()}.
start(Opts, How) ->
    started(Opts, fun(Resolved) -> py_pool_manager:start_dedicated(How, Resolved) end).

%% @doc The same for a process of another node, which links to it or monitors it by itself.
-spec start_for(py_options:pool_options(), Starter :: pid()) -> {ok, pid()} | {error, term()}.
start_for(Opts, Starter) ->
    started(Opts, fun(Resolved) -> py_pool_manager:start_dedicated(Starter, Resolved) end).

started(Opts, Start) ->
    case py_pool:is_running() andalso py_interpreter:resolve(Opts#{workers => 1}) of
        {ok, Resolved} ->
            try Start(Resolved) of
                {error, {shutdown, Reason}} -> {error, Reason};
                Result -> Result
            catch
                %% The node has as many processes as it may have.
                error:system_limit -> {error, system_limit}
            end;
        {error, Reason} ->
            {error, Reason};
        false ->
            {error, {not_started, erlang_python}}
    end.

%% @doc Stops a worker of one's own, and returns when its Python process has left.
-spec stop(pid()) -> ok.
stop(Pid) ->
    try
        gen_server:stop(Pid)
    catch
        %% It has ended.
        exit:_ -> ok
    end,
    py_reaper:await(Pid).
