%% @doc Who waits for the calls of a worker. The code of a call whose process was killed is
%% interrupted.
%%
%% A process that makes a call enters it before it writes the request, and the worker, which
%% owns the table, removes it when Python answers. A message to the worker and a monitor for
%% each call would take five times as long.
%% @hidden
-module(py_callers).

-include("py_worker.hrl").

-export([new/0, enter/2, leave/2, take_dead/1]).

%% @doc Makes the table of a worker, which ends with the calling process.
-spec new() -> ets:tid().
new() ->
    %% Without `write_concurrency', which makes every access slower: few wait for each other here.
    ets:new(?MODULE, [public]).

%% @doc The calling process is about to write a call.
-spec enter(#worker{}, reference()) -> ok.
enter(#worker{callers = Callers}, Ref) ->
    try
        ets:insert(Callers, {Ref, self()}),
        ok
    catch
        %% The worker has ended, as a monitor will say.
        error:badarg -> ok
    end.

%% @doc Python has answered, or never gets it.
-spec leave(#worker{}, reference()) -> ok.
leave(#worker{callers = Callers}, Ref) ->
    try
        ets:delete(Callers, Ref),
        ok
    catch
        error:badarg -> ok
    end.

%% @doc Removes the calls of processes that have ended, and returns them.
-spec take_dead(#worker{}) -> [reference()].
take_dead(#worker{callers = Callers}) ->
    Dead = [Ref || {Ref, Pid} <- ets:tab2list(Callers), not is_process_alive(Pid)],
    %% One that was answered meanwhile has left: only the worker removes any.
    [ets:delete(Callers, Ref) || Ref <- Dead],
    Dead.
