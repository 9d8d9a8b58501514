%% @doc What a pool's manager is asked: to run code in all workers, to drain, to resume, to restart
%% the workers.
%% @hidden
-module(py_pool_admin).

-export([exec/3, drain/2, resume/1, restart_workers/1]).

%% A process that waits for the end of what a pool runs asks this often. A larger number
%% makes it return later, a smaller one costs messages.
-define(DRAIN_POLL_MS, 10).

%% Who asks a manager that was killed tries the next one this often. A larger number makes it wait for
%% longer, a smaller one costs more look-ups.
-define(MANAGER_POLL_MS, 10).

%% @doc Runs code in `__main__' of every worker.
-spec exec(py_pool:name(), binary(), map()) -> ok | {error, py_error:reason()}.
exec(Name, Code, Opts) ->
    case py_pool:defaults(Name) of
        {ok, Defaults} ->
            Checked = py_options:exec(Opts, Defaults),
            ask(Name, {exec, Code, Checked#{group_leader => group_leader()}});
        Error ->
            Error
    end.

%% @doc Lets a pool take nothing new, and waits until nothing is under way. It stays so when
%% the time is over, and when the caller ends.
-spec drain(py_pool:name(), timeout()) -> ok | {error, {busy, pos_integer()} | py_error:reason()}.
drain(Name, Timeout) ->
    case ask(Name, drain) of
        {ok, N} -> await_idle(Name, N, py_clock:deadline(Timeout));
        Error -> Error
    end.

await_idle(_Name, 0, _Deadline) ->
    ok;
await_idle(Name, N, Deadline) ->
    case py_clock:left(Deadline) of
        0 ->
            {error, {busy, N}};
        Left ->
            timer:sleep(min(?DRAIN_POLL_MS, Left)),
            case ask(Name, under_way) of
                {ok, Now} -> await_idle(Name, Now, Deadline);
                Error -> Error
            end
    end.

%% @doc Lets a pool take requests again.
-spec resume(py_pool:name()) -> ok | {error, py_error:reason()}.
resume(Name) ->
    case ask(Name, resume) of
        {ok, _} -> ok;
        Error -> Error
    end.

%% @doc Replaces each worker by a new one.
-spec restart_workers(py_pool:name()) -> ok | {error, py_error:reason()}.
restart_workers(Name) ->
    ask(Name, restart_workers).

ask(Name, Question) ->
    ask(Name, Question, none).

ask(Name, Question, WaitUntil) ->
    %% From the row: the supervisor does not answer while a pool starts.
    case py_pool:owner(Name) of
        {Manager, _Parent} ->
            try
                gen_server:call(Manager, Question, infinity)
            catch
                exit:{noproc, _} -> ask_again(Name, Question, WaitUntil);
                exit:{Reason, _} -> {error, py_error:worker_exit(Reason)}
            end;
        none ->
            {error, {no_pool, Name}}
    end.

%% It was killed before it was asked, and another is started. That of a worker of one's own is not.
ask_again(Name, _Question, _WaitUntil) when is_pid(Name) ->
    {error, {no_pool, Name}};
ask_again(Name, Question, none) ->
    ask_again(Name, Question, py_pool:wait_until(Name));
ask_again(Name, Question, WaitUntil) ->
    case py_clock:left(WaitUntil) > 0 of
        true ->
            timer:sleep(?MANAGER_POLL_MS),
            ask(Name, Question, WaitUntil);
        false ->
            {error, {no_worker, {worker_exit, killed}}}
    end.
